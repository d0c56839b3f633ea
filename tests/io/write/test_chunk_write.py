"""One file from all ranks: the bytes that HDF5 alone would give, for any number of ranks, or no file."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcml.collectives import Communicator, CountingCommunicator, SerialCommunicator, run_threads
from hpcml.errors import DataError, OutputError, SpecError
from hpcml.io.files import file_digest
from hpcml.io.write import chunks as chunk_write
from hpcml.io.write import device
from hpcml.io.write.chunks import Batch, write_file
from hpcml.io.write.filters import COMPRESSIONS, CONTIGUOUS, Storage, encode_chunks
from hpcml.io.write.output import Array

SIZES = [1, 2, 3, 5, 40]
N = 1000
STORAGES = [
    CONTIGUOUS,
    Storage(chunk_rows=64),
    Storage(chunk_rows=64, compression="gzip:1"),
    Storage(chunk_rows=7, compression="lzf", fletcher32=True),
    Storage(chunk_rows=N, compression="gzip", shuffle=False),
    Storage(chunk_rows=100, fletcher32=True),
]


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Many rounds of few rows."""
    monkeypatch.setattr(chunk_write, "UNIT_BYTES", 4000)


def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(N, 6)) * 8) / 8
    X[100:200] = 0.0
    return {"X": X, "deep/y": rng.integers(0, 2, N).astype(np.int8), "cube": rng.random((N, 2, 3))}


def batches(storage: Storage, source: dict[str, np.ndarray]) -> list[Batch]:
    def made(*names: str) -> Batch:
        arrays = tuple(Array(name, source[name].shape, source[name].dtype, storage) for name in names)
        return Batch(arrays, lambda start, stop: [source[name][start:stop] for name in names])

    return [made("X", "deep/y"), made("cube")]


def mark(file: Any) -> None:
    file.attrs["title"] = "made"
    file["X"].attrs["unit"] = "m"


def write(size: int, path: Path, storage: Storage) -> None:
    source = values()
    run_threads(size, lambda comm: write_file(comm, path, batches(storage, source), mark))


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_the_file_is_what_hdf5_reads(tmp_path, storage):
    digests = set()
    for size in SIZES:
        write(size, tmp_path / "f.h5", storage)
        digests.add(file_digest(tmp_path / "f.h5"))
    assert len(digests) == 1
    assert os.listdir(tmp_path) == ["f.h5"]
    with h5py.File(tmp_path / "f.h5") as file:
        for name, array in values().items():
            assert file[name].dtype == array.dtype
            assert np.array_equal(file[name][()], array)
            rows = storage.rows_of(array.shape, array.dtype)
            assert file[name].chunks == (None if rows is None else (rows, *array.shape[1:]))
        assert file.attrs["title"] == "made" and file["X"].attrs["unit"] == "m"
        assert file["X"].compression == (
            storage.compression.partition(":")[0]
            if ":" in storage.compression
            else {"none": None}.get(storage.compression, storage.compression)
        )
        assert file["X"].fletcher32 == storage.fletcher32


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_chunks_are_those_of_hdf5(tmp_path, compression):
    pytest.importorskip("hdf5plugin", reason="filters beyond gzip and lzf come with hdf5plugin")
    storage = Storage(chunk_rows=300, compression=compression)
    X = values()["X"]
    write(3, tmp_path / "f.h5", storage)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(300, 6), **storage.options())
    with h5py.File(tmp_path / "f.h5") as ours, h5py.File(tmp_path / "plain.h5") as theirs:
        assert np.array_equal(ours["X"][()], X)
        for row in range(0, N, 300):
            assert ours["X"].id.read_direct_chunk((row, 0)) == theirs["X"].id.read_direct_chunk((row, 0))


def test_a_filter_that_does_not_help_is_skipped_as_hdf5_does():
    noise = np.random.default_rng(0).integers(0, 256, (64, 16)).astype(np.uint8)
    (chunk,) = encode_chunks(noise, 5, 64, Storage(compression="lzf", chunk_rows=64, shuffle=False))
    assert (chunk.number, chunk.mask, len(chunk.content)) == (5, 1, noise.nbytes)


def test_data_sets_in_one_piece_begin_at_pages(tmp_path):
    write(2, tmp_path / "f.h5", CONTIGUOUS)
    with h5py.File(tmp_path / "f.h5") as file:
        assert all(file[name].id.get_offset() % 4096 == 0 for name in ("X", "cube"))


def test_nothing_to_write(tmp_path):
    arrays = (Array("a", (0, 4), np.dtype("f8"), Storage(compression="gzip")),)
    batch = Batch(arrays, lambda start, stop: pytest.fail("there are no rows"))
    run_threads(3, lambda comm: write_file(comm, tmp_path / "f.h5", [batch], lambda file: None))
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["a"].shape == (0, 4)


def test_the_index_of_an_older_file_goes_with_it(tmp_path):
    write(2, tmp_path / "f.h5", CONTIGUOUS)
    (tmp_path / "f.h5.index").touch()
    write(2, tmp_path / "f.h5", CONTIGUOUS)
    assert os.listdir(tmp_path) == ["f.h5"]


def test_only_sizes_travel_and_rounds_shrink_with_ranks(tmp_path):
    source = values()

    def program(comm: Communicator) -> dict[str, int]:
        counting = CountingCommunicator(comm)
        storage = Storage(chunk_rows=64, compression="gzip")
        write_file(counting, tmp_path / f"{comm.size}.h5", batches(storage, source), mark)
        return dict(counting.calls)

    alone, together = (run_threads(n, program)[0] for n in (1, 4))
    assert set(alone) == set(together) == {"allreduce", "allgather", "bcast", "node"}
    assert sum(together.values()) < sum(alone.values()) / 2


@pytest.mark.parametrize(("storage", "a_round"), [(CONTIGUOUS, 1), (Storage(chunk_rows=250), 6)], ids=str)
def test_messages_for_a_file_and_a_round(tmp_path, storage, a_round):
    array = Array("X", (1000,), np.dtype("f8"), storage)
    batch = Batch((array,), lambda start, stop: [np.zeros(stop - start)])
    assert batch.unit_rows == 500

    def program(comm: Communicator) -> int:
        counting = CountingCommunicator(comm)
        write_file(counting, tmp_path / "f.h5", [batch], lambda file: None)
        return sum(n * (1 if verb == "allreduce" else 2) for verb, n in counting.calls.items())

    assert run_threads(1, program) == [14 + 2 * a_round]
    assert run_threads(3, program) == [14 + a_round] * 3


def test_an_error_of_one_rank_is_that_of_all(tmp_path):
    source = values()
    (tmp_path / "f.h5").write_bytes(b"old")

    def read(start: int, stop: int) -> list[np.ndarray]:
        if start <= 700 < stop:
            raise DataError("row 700 is bad")
        return [source["X"][start:stop]]

    def program(comm: Communicator) -> str:
        array = Array("X", (N, 6), np.dtype("f8"), Storage(compression="gzip", chunk_rows=16))
        with pytest.raises(DataError, match="row 700 is bad") as caught:
            write_file(comm, tmp_path / "f.h5", [Batch((array,), read)], mark)
        assert caught.value.on_all_ranks
        return str(caught.value)

    assert len(set(run_threads(3, program))) == 1
    assert os.listdir(tmp_path) == ["f.h5"]
    assert (tmp_path / "f.h5").read_bytes() == b"old"


@pytest.mark.parametrize("storage", STORAGES[:3], ids=str)
@pytest.mark.parametrize("room", [0, 3000, 60_000])
def test_a_full_disk(tmp_path, monkeypatch, storage, room):
    (tmp_path / "f.h5").write_bytes(b"old")
    pwrite = os.pwrite

    def full(handle: int, content: Any, offset: int) -> int:
        if offset + len(content) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(handle, content, offset)

    monkeypatch.setattr(device.os, "pwrite", full)

    def program(comm: Communicator) -> None:
        with pytest.raises(OutputError, match="no space left on the device"):
            write_file(comm, tmp_path / "f.h5", batches(storage, values()), mark)

    run_threads(3, program)
    assert os.listdir(tmp_path) == ["f.h5"]
    assert (tmp_path / "f.h5").read_bytes() == b"old"


def test_the_room_for_what_lies_in_one_piece_is_taken_first(tmp_path, monkeypatch):
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(device.os, "posix_fallocate", full)
    batch = Batch((Array("X", (10, 1), np.dtype("f8")),), lambda start, stop: pytest.fail("too late"))
    with pytest.raises(OutputError, match="quota"):
        write_file(SerialCommunicator(), tmp_path / "f.h5", [batch], mark)
    assert os.listdir(tmp_path) == []


def test_hdf5_never_sees_a_full_device(tmp_path, monkeypatch):
    """HDF5 crashes the process when a close fails: the device says yes and keeps the error for later."""

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(device.os, "pwrite", full)
    with device.opened(tmp_path / "f.h5", os.O_RDWR | os.O_CREAT) as handle:
        given = device.Device(handle)
        file = given.open_file(aligned=True)
        file.attrs["a"] = 1
        file.flush()
        with pytest.raises(OSError) as caught:
            given.close_file(file)
    assert caught.value.errno == errno.ENOSPC


PROGRAM = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from hpcml.collectives import world
    from hpcml.errors import HpcmlError
    from hpcml.io.write import chunks as chunk_write
    from hpcml.io.write.chunks import Batch, write_file
    from hpcml.io.write.filters import Storage
    from hpcml.io.write.output import Array

    comm = world()
    chunk_write.UNIT_BYTES = 1 << 16
    if len(sys.argv) > 3:  # now, for MPI's own shared memory is files too
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    storage = Storage(chunk_rows=500, compression=sys.argv[2])
    X = np.random.default_rng(0).random((20_000, 10))
    batch = Batch((Array("X", X.shape, X.dtype, storage),), lambda start, stop: [X[start:stop]])
    try:
        write_file(comm, Path(sys.argv[1]), [batch], lambda file: None)
    except HpcmlError as error:
        print(type(error).__name__, error)
        sys.exit(0)
    print("written")
"""


@pytest.mark.parametrize("compression", ["none", "gzip:1"])
def test_under_mpiexec(tmp_path: Path, spmd: Callable[..., Any], compression: str) -> None:
    (tmp_path / "out").mkdir()
    for n in (1, 3):
        job = spmd(n, PROGRAM, tmp_path / "out" / f"{n}.h5", compression, check=0)
        assert job.lines == ["written"] * n
    assert file_digest(tmp_path / "out" / "1.h5") == file_digest(tmp_path / "out" / "3.h5")


@pytest.mark.parametrize("limit", [100, 5000, 200_000, 1_200_000])
@pytest.mark.parametrize("compression", ["none", "gzip:1"])
def test_a_real_limit_crashes_nothing(
    tmp_path: Path, spmd: Callable[..., Any], compression: str, limit: int
) -> None:
    job = spmd(2, PROGRAM, tmp_path / "out" / "f.h5", compression, str(limit), check=0)
    assert [line.split()[0] for line in job.lines] == ["OutputError", "OutputError"], job.describe()
    assert "limit allows" in job.stdout
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"compression": "gzip2"}, "'gzip2' does not fit; write one of none, gzip, lzf"),
        ({"compression": "gzip:10"}, "the level of gzip is 0 to 9, not '10'"),
        ({"compression": "gzip:"}, "the level of gzip"),
        ({"compression": "lzf:3"}, "lzf has no levels"),
        ({"chunk_rows": 0}, "write an integer >= 1"),
        ({"contiguous": True, "compression": "gzip"}, "a filter does not fit"),
        ({"contiguous": True, "chunk_rows": 5}, "chunk_rows does not fit"),
        ({"shuffle": True}, "name one, as in gzip:4"),
        ({"compression": "bitshuffle-lz4", "shuffle": False}, "cannot do without"),
    ],
)
def test_what_cannot_be_stored(given, said):
    with pytest.raises(SpecError, match=said):
        Storage(**given)


def test_a_missing_plugin_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(SpecError, match="pip install hdf5plugin, or take gzip"):
        Storage(compression="blosc-lz4")


def test_chunks_have_about_a_mebibyte():
    storage = Storage(compression="gzip")
    assert storage.rows_of((10**7, 100), np.dtype("f8")) == 1024
    assert storage.rows_of((10**7,), np.dtype("f8")) == 131072
    assert storage.rows_of((10, 10**6), np.dtype("f8")) == 1
    assert storage.rows_of((5, 3), np.dtype("f8")) == 5
    with pytest.raises(SpecError, match="over 1 GiB"):
        Storage(chunk_rows=10**6).rows_of((10**7, 1000), np.dtype("f8"))


def test_chunks_are_written_once(tmp_path, monkeypatch):
    written: list[int] = []
    pwrite = os.pwrite

    def counted(handle: int, content: Any, offset: int) -> int:
        written.append(pwrite(handle, content, offset))
        return written[-1]

    monkeypatch.setattr(device.os, "pwrite", counted)
    write(2, tmp_path / "f.h5", Storage(chunk_rows=N, fletcher32=True))
    assert sum(written) < 1.2 * (tmp_path / "f.h5").stat().st_size


@pytest.mark.parametrize("storage", STORAGES[:3], ids=str)
def test_a_structure_that_cannot_be_written(tmp_path, monkeypatch, storage):
    pwrite = os.pwrite

    def broken(handle: int, content: Any, offset: int) -> int:
        if offset < 96:  # where HDF5's own first bytes are, and no rows
            raise OSError(errno.EIO, "Input/output error")
        return pwrite(handle, content, offset)

    monkeypatch.setattr(device.os, "pwrite", broken)

    def program(comm: Communicator) -> None:
        with pytest.raises(OutputError, match=r"cannot write .*f\.h5"):
            write_file(comm, tmp_path / "f.h5", batches(storage, values()), mark)

    run_threads(2, program)
    assert os.listdir(tmp_path) == []
