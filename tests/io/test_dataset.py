"""Stored rows as a data set: every row once on any number of ranks, kept or streamed, the same bits."""

from __future__ import annotations

import os
import threading
import tracemalloc
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import small
import stores
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcml
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.data import RowSelection, part_of
from hpcml.errors import DataError, SpecError
from hpcml.io import dataset
from hpcml.io.dataset import HDF5Dataset, Layout, open_hdf5
from hpcml.io.read import memory
from hpcml.io.read.prefetch import ReadingTimes

ROWS = small.N_ROWS
SHARD = 64 * small.N_COLUMNS * 8
FORMS = {"X": "X", "chunked": "chunked", "float32": "float32", "S": "zeros"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return small.make_rows(tmp_path_factory.mktemp("dataset") / "rows.h5")


@pytest.fixture
def units(monkeypatch):
    """Read units of two shards: a rank's pass has several."""
    monkeypatch.setattr("hpcml.io.read.table.UNIT_BYTES", 2 * SHARD)


@pytest.fixture
def threaded(monkeypatch):
    """Let every streamed pass begin its thread at once."""
    monkeypatch.setattr(dataset, "ReadingTimes", lambda: ReadingTimes(reading=1.0, computing=1e9))


def cut(cache="none", **more):
    return Layout(cache, block_rows=64, shard_bytes=SHARD, **more)


STREAMED = cut()


def opened(path, comm=stores.SERIAL, x="X", layout=STREAMED, selection=None, weight="w", **access):
    """Return the data set of a file's rows."""
    table = stores.opened(path, x=x, weight=weight, comm=comm, **access)
    return HDF5Dataset(table, comm=comm, selection=selection, layout=layout)


def stored(path: Path, name: str) -> np.ndarray:
    return stores.sliced(path, FORMS.get(name, name), 0, None)


def copied(blocks):
    """All rows of a pass: (index, X, y, weight); a streamed block is good until the next one."""
    parts = [(b.index, stores.dense(b.X).copy(), b.y, b.weight) for b in blocks]
    empty = (np.zeros(0, np.int64), np.zeros((0, small.N_COLUMNS)), np.zeros(0), np.zeros(0))
    return tuple(np.concatenate(column) for column in zip(empty, *parts, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("x", FORMS)
@pytest.mark.parametrize("layout", [cut("memory"), cut(), cut(prefetch=0)], ids=["memory", "none", "alone"])
def test_ranks_hold_every_row_once(rows, units, threaded, size, x, layout):
    selection = RowSelection(3, 20, 580, 0.8, 0.3, "train")

    def work(comm):
        with opened(rows, comm, x, layout, selection) as data:
            first, again = copied(data.blocks()), copied(data.blocks())
            assert all((a == b).all() for a, b in zip(first, again, strict=True))
            return data.n_samples, data.in_memory, data.passes, first

    parts = run_threads(size, work)
    kept = np.flatnonzero(selection.keeps(np.arange(ROWS)))
    in_memory = layout.cache == "memory"
    assert {part[:3] for part in parts} == {(kept.size, in_memory, 1 if in_memory else 2)}
    joined = [np.concatenate(column) for column in zip(*(part[3] for part in parts), strict=True)]
    for column, wanted in zip(joined, (kept, *(stored(rows, n)[kept] for n in (x, "y", "w"))), strict=True):
        np.testing.assert_array_equal(column, wanted)


@pytest.mark.parametrize("layout", [cut("memory"), cut(), cut(prefetch=0)], ids=["memory", "none", "alone"])
@pytest.mark.parametrize("selection", [None, RowSelection(1, fraction=0.5)], ids=["all", "some"])
@pytest.mark.parametrize("x", ["X", "S"])
def test_blocks_are_those_of_memory(rows, units, threaded, layout, selection, x):
    def shards(data):
        return [
            [stores.dense(p.X).tobytes(), p.y.tobytes(), p.index.tobytes(), p.shard_sums(p.y * 1.7).tobytes()]
            for block in data.blocks()
            for p in (part_of(block, i) for i in range(block.n_shards))
        ]

    with opened(rows, x=x, layout=layout, selection=selection) as data:
        found = shards(data)
    with opened(rows, x=x, layout=cut("memory"), selection=selection) as data:
        assert found == shards(data)
    assert len(found) == data.partition.n_shards > 4


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_one_shard_at_a_time(rows, cache):
    with opened(rows, layout=cut(cache)) as data:
        assert data.partition.n_shards == 10
        for shard in (3, 0, 9):
            (block,) = data.blocks(shard)
            np.testing.assert_array_equal(block.index, np.arange(64 * shard, min(64 * shard + 64, ROWS)))
            np.testing.assert_array_equal(block.X, stored(rows, "X")[block.index])
        assert data.passes == (cache == "memory")


def test_streamed_blocks_use_the_same_memory(rows, units, threaded):
    for prefetch in (0, 1, 3):
        with opened(rows, layout=cut(prefetch=prefetch)) as data:
            places = [[block.X.ctypes.data for block in data.blocks()] for _ in range(3)]
            assert len(places[0]) == 5
            assert len({place for one in places for place in one}) == min(prefetch + 1, 5)


def test_memory_outlives_the_file(rows):
    with open_hdf5(rows, cache="memory") as data:
        before = [block.X.copy() for block in data.blocks()]
    assert all((a == block.X).all() for a, block in zip(before, data.blocks(), strict=True))


@settings(max_examples=60)
@given(
    n=st.integers(1, 40),
    chunk=st.sampled_from([None, 1, 3, 8, 50]),
    compression=st.sampled_from([None, "gzip"]),
    block_rows=st.integers(1, 16),
    shard_bytes=st.sampled_from([1, 100, 1000]),
    size=st.integers(1, 6),
)
def test_any_cut_gives_all_rows(tmp_path_factory, n, chunk, compression, block_rows, shard_bytes, size):
    path = tmp_path_factory.getbasetemp() / "cut.h5"
    X = np.arange(2.0 * n).reshape(n, 2)
    options = {"chunks": (chunk, 2), "compression": compression, "maxshape": (None, 2)} if chunk else {}
    stores.put(path, X, **options)

    def work(comm):
        with opened(
            path, comm, layout=Layout("none", block_rows=block_rows, shard_bytes=shard_bytes)
        ) as data:
            blocks = [block.X.copy() for block in data.blocks()]
            return blocks, data.partition.shard_rows, data.rows.traffic.bytes_read

    parts = run_threads(size, work)
    found = np.concatenate([np.zeros((0, 2)), *(b for part in parts for b in part[0])])
    np.testing.assert_array_equal(found, X)
    assert not chunk or parts[0][1] % chunk == 0  # no chunk is read by two ranks
    if compression and chunk:
        with h5py.File(path, locking=False) as file:
            n_bytes = file["X"].id.get_storage_size() + n + 8 * n
        assert sum(part[2] for part in parts) == n_bytes


def test_the_cache_is_decided_once_by_the_rank_with_least_room(rows, monkeypatch):
    def open_on(limit, cache="auto"):
        def work(comm):
            layout = Layout(cache, limit, block_rows=64, shard_bytes=SHARD)
            with opened(rows, comm, layout=layout) as data:
                return data.in_memory, data.reason

        return set(run_threads(3, work))

    # Ten shards on three ranks: the largest share is four shards of 64 rows, 48 and 32 bytes each.
    share = 4 * 64 * (48 + 32)
    share -= 40 * (48 + 32)  # the last shard has 24 rows
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


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("x", ["X", "chunked"])
def test_a_file_that_changes_during_a_pass_is_not_believed(rows, tmp_path, units, threaded, cache, x):
    path = tmp_path / "data.h5"
    path.write_bytes(rows.read_bytes())
    with opened(path, x=x, layout=cut(cache)) as data:
        if cache == "none":
            assert sum(block.n_rows for block in data.blocks()) == ROWS
        os.utime(path, ns=(1, 1))
        with pytest.raises(DataError, match=r"data\.h5: changed while it was read"):
            list(data.blocks())


@pytest.mark.parametrize("x", ["X", "S", "chunked"])
def test_a_file_that_is_cut_during_a_pass_gives_no_zeros(rows, tmp_path, units, threaded, x):
    path = tmp_path / "data.h5"
    path.write_bytes(rows.read_bytes())
    with opened(path, x=x, layout=cut(prefetch=0)) as data:
        whole, blocks = stores.dense(stored(rows, x)), data.blocks()
        first = next(blocks)
        np.testing.assert_array_equal(stores.dense(first.X), whole[: first.n_rows])
        os.truncate(path, 2000)
        with pytest.raises(DataError, match=r"data\.h5: is truncated: it ends at byte 2000"):
            list(blocks)


def test_no_thread_outlives_a_pass(rows, units, threaded):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("hpcml-read")]

    with opened(rows) as data:
        for block in data.blocks():
            assert block.n_rows
            assert len(threads()) <= 1
        assert threads() == []
        blocks = data.blocks()
        next(blocks)
        assert len(threads()) == 1
        with pytest.raises(ZeroDivisionError):
            blocks.throw(ZeroDivisionError())
        assert threads() == []
        for _ in data.blocks():
            break
        assert threads() == []


def test_threads_that_decode_end_with_the_table(rows):
    def decoders():
        return [thread for thread in threading.enumerate() if thread.name.startswith("hpcml-decode")]

    with opened(rows, x="chunked", threads=3) as data:
        np.testing.assert_array_equal(copied(data.blocks())[1], stored(rows, "chunked"))
        assert decoders()
    assert decoders() == []


def test_messages_of_opening(rows):
    def work(comm, cache, selection):
        counting = CountingCommunicator(comm)
        opened(rows, counting, layout=cut(cache), selection=selection).close()
        return dict(counting.calls)

    table = {"allreduce": 2, "allgather": 1}
    assert run_threads(2, lambda comm: work(comm, "none", None)) == [table] * 2
    assert run_threads(2, lambda comm: work(comm, "none", RowSelection(1))) == [table | {"allreduce": 3}] * 2
    assert (
        run_threads(2, lambda c: work(c, "auto", None)) == [{"allreduce": 3, "allgather": 1, "node": 1}] * 2
    )


def test_the_public_name(rows):
    with hpcml.open_hdf5(rows, x="S", y="t", weight="w") as data:
        assert (data.n_samples, data.n_features, data.comm.size) == (ROWS, small.N_COLUMNS, 1)
        assert sum(block.n_rows for block in data.blocks()) == ROWS
    with hpcml.open_hdf5(str(rows), y=None, cache="none") as data:
        assert next(data.blocks()).y is None
    with hpcml.open_hdf5([rows, str(rows)]) as data:
        assert data.n_samples == 2 * ROWS
    with pytest.raises(SpecError, match="cache must be one of auto, memory, none, not 'disk'"):
        hpcml.open_hdf5(rows, cache="disk")
    with pytest.raises(SpecError, match="comm must be None, 'world' or a communicator"):
        hpcml.open_hdf5(rows, comm="all")
    with pytest.raises(DataError, match="there is no such file"):
        hpcml.open_hdf5("nowhere.h5")
    with pytest.raises(SpecError, match="give at least one file"):
        hpcml.open_hdf5([])


def test_ranks_that_each_work_alone_are_warned(rows, monkeypatch):
    monkeypatch.setattr("hpcml.collectives.startup.expected_size", lambda: 4)
    with pytest.warns(UserWarning, match="comm='world' joins them"):
        hpcml.open_hdf5(rows).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hpcml.open_hdf5(rows, comm=SerialCommunicator()).close()


def test_an_error_of_one_rank_is_everyones(rows, tmp_path):
    def work(comm):
        with pytest.raises(DataError, match=r"missing\.h5: there is no such file") as caught:
            open_hdf5([rows, tmp_path / "missing.h5"], comm=comm)
        return caught.value.on_all_ranks

    assert run_threads(3, work) == [True] * 3


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_streamed_pass_holds_three_read_units(tmp_path, threaded, compression):
    rows = np.arange(65536 * 64, dtype=float).reshape(65536, 64)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("X", data=rows, chunks=(1024, 64), compression=compression)
    with stores.opened(tmp_path / "data.h5", x="X", y=None, weight=None) as table:
        data = HDF5Dataset(table, comm=stores.SERIAL, layout=Layout("none", prefetch=2))
        tracemalloc.start()
        largest = max(block.X.nbytes for block in data.blocks())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert 4 << 20 <= largest < 5 << 20
    assert 2 * largest < peak < 3 * largest + (1 << 20)
