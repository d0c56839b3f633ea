"""Files opened by all ranks together through MPI-IO: the same rows, where h5py was built for it."""

from __future__ import annotations

import h5py
import pytest
import small

from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.collectives.startup import mpi_handle
from hpcml.errors import SpecError
from hpcml.io.read import mpio
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table

HAS_MPI = h5py.get_config().mpi
parallel = pytest.mark.skipif(not HAS_MPI, reason="this h5py was built without MPI (h5py.get_config().mpi)")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return small.make_rows(tmp_path_factory.mktemp("mpio") / "rows.h5")


def test_communicators_without_mpi_have_no_handle():
    assert mpi_handle(SerialCommunicator()) is None
    assert run_threads(2, lambda comm: mpi_handle(CountingCommunicator(comm))) == [None, None]


def test_what_to_install_is_said_on_every_rank(rows, monkeypatch):
    config = type("Config", (), {"mpi": False})
    monkeypatch.setattr(mpio.h5py, "get_config", config)

    def work(comm):
        with pytest.raises(SpecError, match="needs an h5py that was built with a parallel HDF5") as caught:
            open_table(comm, [rows], Columns(), access=Access(driver="mpio"))
        return caught.value.on_all_ranks

    assert run_threads(3, work) == [True] * 3


@pytest.mark.skipif(HAS_MPI, reason="this h5py was built with MPI")
@pytest.mark.parametrize("n", [1, 3])
def test_a_run_says_what_to_install(rows, tmp_path, n):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, data__io={"driver": "mpio"})
    done = small.hpcml("run", spec, "-n", str(n), f"output.dir={tmp_path / 'run'}", check=2)
    assert "data.io.driver: mpio needs an h5py that was built with a parallel HDF5" in done.stderr
    assert "Traceback" not in done.stderr


def test_scratch_does_not_fit(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, data__io={"driver": "mpio"}, data__cache="scratch")
    done = small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", check=2)
    assert "data.io.driver: mpio reads files in place" in done.stderr


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from hpcml.collectives import CountingCommunicator, SerialCommunicator, world
from hpcml.errors import DataError
from hpcml.io.read.array_reader import LibraryReader
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table

comm, path = CountingCommunicator(world()), Path(sys.argv[1])
for x in ("X", "chunked", "float32", "integers", "S"):
    together = open_table(comm, [path, path], Columns(x, "y", "w"), access=Access(driver="mpio"))
    alone = open_table(SerialCommunicator(), [path, path], Columns(x, "y", "w"))
    assert together.traffic.opens == 2
    # Each rank reads other rows, and another number of them; the last one none.
    for start in range(100 * comm.rank, 1200 if comm.rank + 1 < comm.size else 0, 170):
        ours, theirs = (table.read(start, min(start + 99, 1200)) for table in (together, alone))
        for one, other in zip(ours, theirs, strict=True):
            one, other = (a.toarray() if x == "S" and a.ndim == 2 else a for a in (one, other))
            assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    assert all(isinstance(reader, LibraryReader) for reader in together._readers.values())
    together.check()
    together.close()
try:
    open_table(comm, [path.with_name("none.h5")], Columns(), access=Access(driver="mpio"))
except DataError as error:
    assert "there is no such file" in str(error)
print(comm.rank, "ok")
"""


@parallel
@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_are_those_of_independent_reads(rows, spmd, n):
    done = spmd(n, PROGRAM, rows, check=0)
    assert done.lines == [f"{rank} ok" for rank in range(n)]
    assert done.survivors == ()


@parallel
def test_a_run_gives_the_same_model(rows, tmp_path):
    found = {}
    for x in ("X", "chunked", "S"):
        for driver in ("mpio", "independent"):
            for n in (1, 3):
                run = tmp_path / f"{x}-{driver}-{n}"
                keys = {"data__io": {"driver": driver}, "data__x": x, "data__cache": "none"}
                spec = small.write_spec(tmp_path / "spec.yaml", rows, **keys)
                small.hpcml("run", spec, "-n", str(n), f"output.dir={run}", check=0)
                result = small.result_of(run)
                found[x, driver, n] = result["model_digest"]
                if driver == "mpio":
                    assert result["reading"]["opens_per_rank"] == 1
                    assert result["reading"]["bytes"] > 0
    for x in ("X", "chunked", "S"):
        assert len({digest for (name, *_), digest in found.items() if name == x}) == 1


@parallel
@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_fails_does_not_wait_for_the_others(rows, tmp_path, rank):
    spec = small.write_spec(
        tmp_path / "spec.yaml", rows, data__io={"driver": "mpio"}, data__cache="none", solver__max_iter=300
    )
    fault = {"where": "hpcml.io.read.table:HDF5Table.read", "rank": rank, "call": 5, "action": "raise"}
    argv = ["run", spec, "-n", "3", f"output.dir={tmp_path / 'run'}"]
    done = small.hpcml(*argv, env=small.fault(tmp_path, fault))
    assert (done.returncode, done.survivors) == (1, ())
    assert f"rank {rank}: RuntimeError: a bug was planted here" in done.stderr
    assert done.seconds < 10.0
