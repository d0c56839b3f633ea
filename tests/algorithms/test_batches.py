"""Mini-batches: every row once an epoch, the same share whoever owns it and wherever it lies."""

from __future__ import annotations

import hashlib
from itertools import chain

import numpy as np
import pytest
import small
from algorithms.problems import SERIAL, Grid, as_csr, classification

from hpcml.algorithms.batches import make_batches
from hpcml.collectives import run_threads
from hpcml.data import RowSelection, is_csr
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table

SIZES = (1, 2, 3, 5)
N_ROWS = 650


def numbered(weighted=True):
    """A problem whose first column is the number of the row."""
    problem = classification(N_ROWS, 3, weighted=weighted)
    X = problem.X.copy()
    X[:, 0] = np.arange(len(X))
    return problem._replace(X=X)


def rows_of(batch):
    """Row numbers of a batch's blocks; all arrays of a block are of the same rows."""
    found = []
    for block in batch.blocks():
        X = block.X.toarray() if is_csr(block.X) else block.X
        assert block.n_rows == len(X) == len(block.y) == len(block.weight)
        assert block.pieces[0] == block.shards[0] == 0
        assert block.pieces[-1] == block.shards[-1] == len(X)
        assert np.array_equal(block.index, X[:, 0])
        found += [int(row) for row in X[:, 0]]
    return found


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("selection", [None, RowSelection(1, fraction=0.7)], ids=["all", "some"])
@pytest.mark.parametrize("batch_rows", [None, 7, 200, N_ROWS, 10**6])
def test_every_row_is_in_one_batch_of_an_epoch(make, selection, batch_rows):
    data = Grid(make(numbered()), selection=selection)
    batches = make_batches(data, batch_rows)
    kept = np.arange(N_ROWS) if selection is None else np.flatnonzero(selection.keeps(np.arange(N_ROWS)))
    for epoch in range(3):
        found = [row for batch in batches.epoch(epoch) for row in rows_of(batch)]
        assert sorted(found) == kept.tolist()


@pytest.mark.parametrize("shard_rows", [16, 64, 700])
def test_ranks_share_the_batches_of_one(shard_rows):
    def program(comm):
        data = Grid(numbered(), comm, shard_rows)
        return [[rows_of(batch) for batch in make_batches(data, 60, seed=3).epoch(e)] for e in range(2)]

    (alone,) = run_threads(1, program)
    for size in SIZES:
        shares = run_threads(size, program)
        joined = [
            [list(chain(*parts)) for parts in zip(*epoch, strict=True)] for epoch in zip(*shares, strict=True)
        ]
        assert joined == alone


def test_each_batch_has_rows_from_everywhere():
    """With many shards and with one: sorted rows are spread over all batches."""
    for shard_rows in (8, 650):
        batches = make_batches(Grid(numbered(), shard_rows=shard_rows), 65)
        assert batches.n == 10
        for batch in batches.epoch(0):
            rows = rows_of(batch)
            assert 40 <= len(rows) <= 90
            assert np.diff([0, *sorted(rows), N_ROWS]).max() < 2 * N_ROWS / 8


def test_seed_and_epoch_decide_the_batches():
    data = Grid(numbered())

    def drawn(seed, epoch):
        return [rows_of(batch) for batch in make_batches(data, 60, seed).epoch(epoch)]

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1) != drawn(1, 0) != drawn(0, 0)
    assert drawn(2**64, 0) == drawn(0, 0)


def test_the_number_of_batches():
    def n(rows, wanted=None):
        return make_batches(Grid(classification(rows, 2)), wanted).n

    assert [n(1), n(31), n(64), n(100_000), n(1, 100), n(100, 1), n(100, 30)] == [1, 1, 2, 64, 1, 100, 3]


def test_whole_shards_are_views_and_streamed_bytes_are_read_once(tmp_path):
    """Where there are 8 shards for each batch."""
    path = small.make_rows(tmp_path / "rows.h5", 2048)
    taken = {}
    for cache in ("memory", "none"):
        table = open_table(SERIAL, [path], Columns("X", "y", "w"))
        with HDF5Dataset(table, comm=SERIAL, layout=Layout(cache, **small.CUT)) as data:
            batches = make_batches(data, 1024)
            assert (data.partition.n_shards, batches.n, batches.parts) == (32, 2, 1)
            list(data.blocks())
            before = data.rows.traffic.bytes_read
            blocks = [block for batch in batches.epoch(0) for block in batch.blocks()]
            read = data.rows.traffic.bytes_read - before
            assert read == (0 if cache == "memory" else before)
            assert cache == "none" or np.shares_memory(blocks[0].X, next(data.blocks()).X)
            digest = hashlib.sha256()
            for batch in batches.epoch(0):
                for block in batch.blocks():
                    digest.update(block.X.tobytes() + block.y.tobytes())
            taken[cache] = digest.hexdigest()
    assert taken["memory"] == taken["none"]


def test_a_rank_without_rows():
    def program(comm):
        data = Grid(numbered(), comm, shard_rows=700)
        return [len(rows_of(batch)) for batch in make_batches(data, 325).epoch(0)]

    assert run_threads(3, program)[0] == [0, 0]
    assert sum(map(sum, run_threads(3, program))) == N_ROWS
