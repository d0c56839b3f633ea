"""Rows of HDF5 files: what is read, for any cut into shards and ranks, and kept or streamed."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import h5py
import harness
import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import hpcml
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError, SpecError
from hpcml.io import dataset, hdf5, memory
from hpcml.io.dataset import HDF5Dataset, Layout, open_hdf5
from hpcml.io.hdf5 import HDF5Rows

ROWS = small.N_ROWS
CUT = Layout(block_rows=64, shard_bytes=64 * small.N_COLUMNS * 8)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return small.make_rows(tmp_path_factory.mktemp("hdf5") / "rows.h5")


def stored(path: Path, name: str) -> np.ndarray:
    with h5py.File(path, locking=False) as file:  # HDF5 wants one flag for all opens of a file in a process
        return file[{"S": "zeros"}.get(name, name)][()]


def dense(X) -> np.ndarray:
    return X.toarray() if sparse.issparse(X) else X


@pytest.mark.parametrize("x", ["X", "chunked", "float32", "integers", "S"])
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_ranges_of_rows(rows, x, dtype):
    whole = stored(rows, x)
    with HDF5Rows(rows, x, "y", "w", dtype) as file:
        assert (file.n_samples, file.n_features) == whole.shape and file.is_sparse == (x == "S")
        for start, stop in ((0, ROWS), (0, 1), (47, 49), (599, 600), (300, 300)):
            X = file.rows(start, stop)
            assert X.dtype == np.dtype(dtype or {"float32": "f4"}.get(x, "f8"))
            np.testing.assert_array_equal(dense(X), whole[start:stop].astype(X.dtype))
            for name, column in (("y", "y"), ("weight", "w")):
                part = file.column(name, start, stop)
                assert part.dtype == np.float64 and part.shape == (stop - start,)
                np.testing.assert_array_equal(part, stored(rows, column)[start:stop])


def test_large_ranges_are_read_in_pieces(rows, monkeypatch):
    monkeypatch.setattr(hdf5, "_CALL_BYTES", 100)
    for x in ("X", "S", "integers"):
        with HDF5Rows(rows, x, "y", None) as file:
            np.testing.assert_array_equal(dense(file.rows(3, 590)), stored(rows, x)[3:590])
            assert file.bytes_read > 0


def test_labels_in_a_column_vector(rows, tmp_path):
    with small.changed(rows, tmp_path / "data.h5") as file:
        y = file["y"][()]
        del file["y"]
        file["y"] = y[:, None]
    with HDF5Rows(tmp_path / "data.h5", "X", "y", None) as file:
        np.testing.assert_array_equal(file.column("y", 10, 20), y[10:20])
        assert file.column("weight", 0, 1) is None and file.labels is None and file.texts("names") is None


def _held(data: HDF5Dataset) -> tuple[np.ndarray, ...]:
    """All rows of a rank: (index, X, y, weight)."""
    empty = np.zeros((0, small.N_COLUMNS))
    blocks = list(data.blocks())
    return (
        np.concatenate([np.zeros(0, np.int64), *(b.index for b in blocks)]),
        np.concatenate([empty, *(dense(b.X) for b in blocks)]),
        np.concatenate([np.zeros(0), *(b.y for b in blocks)]),
        np.concatenate([np.zeros(0), *(b.weight for b in blocks)]),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13])
@pytest.mark.parametrize(
    ("x", "cache"), [("X", "memory"), ("S", "none"), ("chunked", "none"), ("S", "memory")]
)
def test_ranks_hold_every_row_once(rows, monkeypatch, size, x, cache):
    monkeypatch.setattr(dataset, "_READ_BYTES", 2 * CUT.shard_bytes)  # a streamed rank reads twice and more
    selection = RowSelection(3, 20, 580, 0.8, 0.3, "train")

    def work(comm):
        layout = Layout(cache, block_rows=64, shard_bytes=CUT.shard_bytes)
        with HDF5Dataset(rows, comm=comm, x=x, weight="w", selection=selection, layout=layout) as data:
            first, again = _held(data), _held(data)
            assert all((a == b).all() for a, b in zip(first, again, strict=True))
            return data.n_samples, data.in_memory, first

    parts = run_threads(size, work)
    kept = np.flatnonzero(selection.keeps(np.arange(ROWS)))
    joined = [np.concatenate(column) for column in zip(*(part[2] for part in parts), strict=True)]
    expected = (kept, stored(rows, x)[kept], stored(rows, "y")[kept], stored(rows, "w")[kept])
    assert {part[:2] for part in parts} == {(kept.size, cache == "memory")}
    for column, rows_expected in zip(joined, expected, strict=True):
        np.testing.assert_array_equal(column, rows_expected)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_one_shard_at_a_time(rows, cache):
    layout = Layout(cache, block_rows=64, shard_bytes=CUT.shard_bytes)
    data = HDF5Dataset(rows, comm=SerialCommunicator(), weight="w", layout=layout)
    assert data.partition.n_shards == 10
    for shard in range(10):
        (block,) = data.blocks(shard)
        np.testing.assert_array_equal(block.index, np.arange(64 * shard, min(64 * shard + 64, ROWS)))
        np.testing.assert_array_equal(block.X, stored(rows, "X")[block.index])


def test_memory_outlives_the_file(rows):
    with open_hdf5(rows, cache="memory") as data:
        before = [block.X.copy() for block in data.blocks()]
    assert all((a == block.X).all() for a, block in zip(before, data.blocks(), strict=True))


@given(
    st.integers(1, 40),
    st.sampled_from([None, 1, 3, 8]),
    st.integers(1, 16),
    st.sampled_from([1, 100, 1000]),
    st.integers(1, 6),
)
def test_any_cut_gives_all_rows(tmp_path_factory, n, chunk, block_rows, shard_bytes, size):
    path = tmp_path_factory.getbasetemp() / "cut.h5"
    X = np.arange(2.0 * n).reshape(n, 2)
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=X, chunks=(min(chunk, n), 2) if chunk else None)
    layout = Layout("none", block_rows=block_rows, shard_bytes=shard_bytes)

    def work(comm):
        with HDF5Dataset(path, comm=comm, y=None, layout=layout) as data:
            return [block.X for block in data.blocks()], data.partition.shard_rows

    parts = run_threads(size, work)
    np.testing.assert_array_equal(
        np.concatenate([np.zeros((0, 2)), *(b for part in parts for b in part[0])]), X
    )
    assert not chunk or parts[0][1] % min(chunk, n) == 0  # no chunk is read by two ranks


def test_the_cache_is_decided_once_by_the_rank_with_least_room(rows, monkeypatch):
    def open_on(limit, cache="auto"):
        def work(comm):
            layout = Layout(cache, limit, block_rows=64, shard_bytes=CUT.shard_bytes)
            with HDF5Dataset(rows, comm=comm, layout=layout) as data:
                return data.in_memory, data.reason

        return set(run_threads(3, work))

    # Ten shards on three ranks: the largest share is four shards of 64 rows, 48 and 24 bytes each.
    share = 4 * 64 * (48 + 24)
    share -= 40 * (48 + 24)  # the last shard has 24 rows
    assert open_on(share) == {(True, "every rank's share fits in memory")}
    assert open_on(share - 1) == {(False, "a rank's share does not fit in memory")}
    assert open_on(1, "memory") == {(True, "asked for")}
    monkeypatch.setattr(dataset, "available_bytes", lambda: 3 * share)
    assert open_on(1.0) == {(True, "every rank's share fits in memory")}
    assert open_on(0.9) == {(False, "a rank's share does not fit in memory")}


def test_memory_of_this_machine(monkeypatch, tmp_path):
    assert memory.available_bytes() > 1 << 20
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "current").write_text("999000\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert memory.available_bytes() == 1000
    (tmp_path / "max").write_text("max\n")
    assert memory.available_bytes() > 1 << 20


def test_the_public_name(rows):
    with hpcml.open_hdf5(rows, x="S", y="t", weight="w") as data:
        assert (data.n_samples, data.n_features, data.comm.size) == (ROWS, small.N_COLUMNS, 1)
        assert sum(block.n_rows for block in data.blocks()) == ROWS
    with hpcml.open_hdf5(str(rows), y=None, cache="none") as data:
        assert next(data.blocks()).y is None
    with pytest.raises(SpecError, match="cache must be one of auto, memory, none, not 'disk'"):
        hpcml.open_hdf5(rows, cache="disk")
    with pytest.raises(SpecError, match="comm must be None, 'world' or a communicator"):
        hpcml.open_hdf5(rows, comm="all")
    with pytest.raises(DataError, match="there is no such file"):
        hpcml.open_hdf5("nowhere.h5")


def test_ranks_that_each_work_alone_are_warned(rows, monkeypatch):
    monkeypatch.setattr("hpcml.collectives.startup.expected_size", lambda: 4)
    with pytest.warns(UserWarning, match="comm='world' joins them"):
        hpcml.open_hdf5(rows).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hpcml.open_hdf5(rows, comm=SerialCommunicator()).close()


def test_an_error_of_one_rank_is_everyones(rows, tmp_path):
    paths = [rows, tmp_path / "missing.h5", rows]

    def work(comm):
        with pytest.raises(DataError, match=r"missing\.h5: there is no such file") as caught:
            HDF5Dataset(paths[comm.rank], comm=comm)
        return caught.value.on_all_ranks

    assert run_threads(3, work) == [True] * 3


def test_a_file_that_is_written_elsewhere_can_be_read(rows, tmp_path):
    with small.changed(rows, tmp_path / "data.h5"):  # the writer's lock; the reader takes none
        code = "import hpcml, sys; print(hpcml.open_hdf5(sys.argv[1]).n_samples)"
        done = harness.run_job([sys.executable, "-c", code, str(tmp_path / "data.h5")], check=0)
    assert done.stdout == f"{ROWS}\n"


def test_a_chunk_that_cannot_be_read(rows, tmp_path):
    path = tmp_path / "data.h5"
    with small.changed(rows, path) as file:
        where = file["chunked"].id.get_chunk_info(5)
    with path.open("r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(b"\xff" * where.size)
    with HDF5Rows(path, "chunked", "y", None) as file:
        file.rows(0, 240)
        with pytest.raises(DataError, match=r"rows 240 to 260 of /chunked cannot be read"):
            file.rows(240, 260)
