"""Whole jobs open each file once a rank, however its rows are stored, and ask for no more than they need."""

from __future__ import annotations

import h5py
import pytest
import small
import stores

from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.run.inputs import open_rows
from hpcml.spec import load_spec

FORMS = ["contiguous", "gzip", "fletcher32", "gzip fletcher32", "bitshuffle", "blosc2"]
CACHES = ["memory", "none"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """X in forms that we read, and in forms that HDF5 alone reads; y lies flat beside it."""
    path = small.make_rows(tmp_path_factory.mktemp("opens") / "rows.h5")
    with h5py.File(path, "r+") as file:
        for form in FORMS:
            file.create_dataset(form, data=file["X"][()], **stores.STORED[form])
    return path


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_file_is_opened_once_a_rank(rows, tmp_path, n):
    lines = []
    for form in FORMS:
        for cache in CACHES:
            run = tmp_path / f"{form}-{cache}".replace(" ", "-")
            spec = small.write_spec(
                run.with_suffix(".yaml"), rows, data__x=form, data__weight="w", data__cache=cache
            )
            lines.append(["run", spec, f"output.dir={run}"])
    for line, ranks in zip(lines, small.commands(n, lines, tmp_path / f"on{n}"), strict=True):
        assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
    results = [small.result_of(tmp_path / line[2].rpartition("/")[2]) for line in lines]
    assert [result["reading"]["opens_per_rank"] for result in results] == [1] * len(lines)
    assert len({result["model_digest"] for result in results[2:]}) == 1  # the cut follows chunks


@pytest.mark.parametrize(("x", "n_nodes"), [("X", 0), ("gzip", 1), ("fletcher32", 1)])
def test_cores_are_asked_for_where_chunks_have_filters(rows, tmp_path, x, n_nodes):
    spec = load_spec(small.write_spec(tmp_path / "job.yaml", rows, data__x=x))

    def work(comm):
        counting = CountingCommunicator(comm)
        asked = []
        counting.node = lambda: asked.append(comm.rank) or comm.node()
        with open_rows(spec, counting, "train") as table:
            return len(asked), table.access.threads

    for asked, threads in run_threads(2, work):
        assert asked == n_nodes and threads >= 1


def test_through_mpi_io_nobody_asks_for_cores(rows, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("hpcml.io.read.table.cores_of_this_process", lambda comm: asked.append(1) or 2)
    monkeypatch.setattr("hpcml.io.read.table.check_mpio", lambda: None)
    monkeypatch.setattr("hpcml.io.read.table.HDF5Table.share", lambda self, comm: None)
    io = {"driver": "mpio"}
    spec = load_spec(small.write_spec(tmp_path / "job.yaml", rows, data__x="gzip", data__io=io))
    with run_threads(1, lambda comm: open_rows(spec, comm, "train"))[0] as table:
        assert table.access.threads == 1 and not asked
