"""The laws of partitions, and rows that arrive the same however they were split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.data import (
    ArrayDataset,
    Block,
    RowPartition,
    RowSelection,
    Source,
    join,
    make_block,
    make_partition,
    part_of,
)
from hpcml.errors import DataError

SERIAL = SerialCommunicator()
sources = st.builds(
    Source,
    n_samples=st.integers(0, 10**7),
    n_features=st.integers(1, 1000),
    row_bytes=st.floats(0.0, 1e8),
    chunk_rows=st.sampled_from([1, 1, 7, 64, 100, 1000, 50_000]),
)


def test_a_shard_of_wide_sparse_rows_outweighs_its_gradient():
    """A reduction reads 8 bytes a feature and shard: here a 1024th of the bytes would be less than that."""
    sparse, narrow, dense = (
        Source(500_000, 20_000, 480.0),
        Source(500_000, 15, 480.0),
        Source(500_000, 15, 120.0),
    )
    assert make_partition(sparse, 1).shard_rows == round(32 * 8 * 20_000 / 480 / 1024) * 1024
    assert make_partition(narrow, 1).shard_rows == 1024
    assert make_partition(dense, 1).shard_rows == 4096


@given(source=sources, size=st.integers(1, 50))
def test_partition_laws(source, size):
    partition = make_partition(source, size)
    assert partition.size == size
    shards = [s for rank in range(size) for s in partition.shards_of(rank)]
    assert shards == list(range(partition.n_shards))  # one owner each, in order
    ends = [partition.rows_of(partition.shards_of(rank)) for rank in range(size)]
    assert ends[0][0] == 0
    assert ends[-1][1] == source.n_samples
    assert all(a[1] == b[0] for a, b in pairwise(ends))
    alone = make_partition(source, 1)
    assert (alone.shard_rows, alone.block_rows) == (partition.shard_rows, partition.block_rows)
    owned = [len(partition.shards_of(rank)) for rank in range(size)]
    assert max(owned) - min(owned) <= 1


@given(source=sources)
def test_sizes_of_shards_and_blocks(source):
    partition = make_partition(source, 1)
    row_bytes = max(source.row_bytes, 1.0)
    block = partition.block_rows
    assert block in {1 << i for i in range(6, 13)}
    assert block == 64 or block * row_bytes <= 512 << 10
    assert block == 4096 or 2 * block * row_bytes > 512 << 10
    assert partition.shard_rows % source.chunk_rows == 0
    if source.chunk_rows == 1:
        assert partition.shard_rows % block == 0
    unit = max(block, source.chunk_rows)
    assert partition.shard_rows >= block or partition.shard_rows >= source.chunk_rows
    assert partition.shard_rows <= max(unit, 1.5 * (16 << 20) / row_bytes) + unit
    assert (
        partition.n_shards <= 1024 * 2
        or partition.shard_rows == unit
        or row_bytes * unit > 16 << 20
        or (partition.shard_rows * row_bytes >= (16 << 20) / 2)
    )


@given(source=sources, size=st.integers(1, 9))
def test_a_row_has_one_shard(source, size):
    partition = make_partition(source, size)
    for row in {0, source.n_samples // 2, source.n_samples - 1} if source.n_samples else ():
        shard = row // partition.shard_rows
        start, stop = partition.rows_of(range(shard, shard + 1))
        assert start <= row < stop
        assert sum(shard in partition.shards_of(rank) for rank in range(size)) == 1


def test_given_sizes_are_kept():
    partition = make_partition(Source(1000, 2, 16.0), 3, shard_bytes=1600, block_rows=10)
    assert (partition.shard_rows, partition.block_rows, partition.n_shards) == (100, 10, 10)
    assert partition.borders == (0, 3, 6, 10)
    assert make_partition(Source(0, 2, 16.0), 3).borders == (0, 0, 0, 0)
    assert make_partition(Source(1, 2, 16.0), 3).borders == (0, 0, 0, 1)


@given(
    n=st.integers(1, 200),
    shard_rows=st.integers(1, 40),
    block_rows=st.integers(1, 50),
    share=st.sampled_from([None, 0.0, 0.3, 1.0]),
)
def test_the_grid_of_blocks(n, shard_rows, block_rows, share):
    partition = RowPartition(n, shard_rows, block_rows, (0, -(-n // shard_rows)))
    selection = None if share is None else RowSelection(3, fraction=share)
    X, y = np.arange(2.0 * n).reshape(n, 2), np.arange(float(n))
    keep = None if selection is None else selection.keeps(np.arange(n))
    whole = make_block(X.copy(), y, y, range(partition.n_shards), partition, keep, offset=y)
    kept = np.arange(n) if selection is None else np.flatnonzero(selection.keeps(np.arange(n)))
    assert whole.index.tolist() == kept.tolist()
    assert (X[kept] == whole.X).all()
    assert whole.y.tolist() == whole.weight.tolist() == whole.offset.tolist() == y[kept].tolist()
    assert whole.n_shards == partition.n_shards
    for shard in range(partition.n_shards):
        part = part_of(whole, shard)
        start, stop = partition.rows_of(range(shard, shard + 1))
        marked = None if keep is None else keep[start:stop]
        alone = make_block(
            X[start:stop].copy(), y[start:stop], None, range(shard, shard + 1), partition, marked
        )
        assert (X[alone.index] == alone.X).all()
        assert part.index.tolist() == part.offset.tolist() == alone.index.tolist()
        assert part.shards.tolist() == alone.shards.tolist()
        assert np.unique(part.pieces).tolist() == np.unique(alone.pieces).tolist()
        rows = kept[(kept >= start) & (kept < stop)]
        blocks = [rows[(rows - start) // block_rows == b].size for b in range(-(-shard_rows // block_rows))]
        assert [size for size in np.diff(alone.pieces).tolist() if size] == [size for size in blocks if size]


@given(
    n=st.integers(1, 200),
    shard_rows=st.integers(1, 40),
    block_rows=st.integers(1, 50),
    share=st.sampled_from([None, 0.0, 0.3, 1.0]),
    step=st.integers(1, 5),
    is_sparse=st.booleans(),
)
def test_blocks_joined_are_the_block_of_all(n, shard_rows, block_rows, share, step, is_sparse):
    partition = RowPartition(n, shard_rows, block_rows, (0, -(-n // shard_rows)))
    keep = None if share is None else RowSelection(3, fraction=share).keeps(np.arange(n))
    X, y = np.arange(2.0 * n).reshape(n, 2) % 5, np.arange(float(n))
    memory = np.empty((step * shard_rows, 2))  # each block lies where the one before lay

    def made(shards):
        start, stop = partition.rows_of(shards)
        memory[: stop - start] = X[start:stop]
        rows = sparse.csr_array(X[start:stop]) if is_sparse else memory[: stop - start]
        marked = None if keep is None else keep[start:stop]
        return make_block(rows, y[start:stop], None, shards, partition, marked, offset=-y[start:stop])

    last = partition.n_shards
    blocks = (made(range(first, min(first + step, last))) for first in range(0, last, step))
    found = join(blocks, n if keep is None else int(keep.sum()))
    whole = sparse.csr_array(X) if is_sparse else X.copy()
    wanted = make_block(whole, y, None, range(last), partition, keep, offset=-y)
    assert found.weight is None
    assert (found.start, found.n_shards, type(found.X)) == (0, last, type(wanted.X))
    for name in ("y", "offset", "shards", "pieces", "index"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist()
    dense = [block.X.toarray() if is_sparse else block.X for block in (found, wanted)]
    assert dense[0].tolist() == dense[1].tolist()


def test_no_shards_make_an_empty_block():
    partition = make_partition(Source(10, 2, 16.0), 3)
    block = make_block(np.zeros((0, 2)), None, None, partition.shards_of(0), partition)
    assert (block.n_rows, block.n_shards, block.y) == (0, 0, None)
    assert block.shard_sums(np.zeros(0)).shape == (0,)
    assert block.shard_sums(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("columns", [(), (1,), (3,), (8,)])
def test_shard_sums_do_not_depend_on_the_neighbours(columns):
    rng = np.random.default_rng(0)
    lengths = [0, 1, 7, 8, 9, 0, 128, 129, 1000, 1024, 1025, 5000, 0, 3, 0]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.normal(size=(ends[-1], *columns)) * 10.0 ** rng.integers(-8, 8, (ends[-1], *columns))
    block = Block(np.zeros((ends[-1], 1)), None, None, 0, ends, ends)
    together = block.shard_sums(values)
    for i, (start, stop) in enumerate(pairwise(ends)):
        own = values[start:stop].copy()
        alone = Block(own, None, None, 0, np.array([0, stop - start]), ends)
        assert alone.shard_sums(own)[0].tobytes() == together[i].tobytes()
        np.testing.assert_allclose(together[i], own.sum(axis=0), rtol=1e-10, atol=1e-3)


@given(
    seed=st.integers(-5, 2**70),
    n=st.integers(0, 3000),
    cut=st.integers(0, 3000),
    test=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    fraction=st.sampled_from([0.1, 1.0]),
)
def test_a_split_is_disjoint_complete_and_the_same_for_any_slice(seed, n, cut, test, fraction):
    rows = np.arange(n)
    train, held, everything = (
        RowSelection(seed, fraction=fraction, test=test, part=part) for part in ("train", "test", "all")
    )
    first, second = train.keeps(rows), held.keeps(rows)
    assert not (first & second).any()
    assert ((first | second) == everything.keeps(rows)).all()
    cut = min(cut, n)
    assert (np.concatenate([train.keeps(rows[:cut]), train.keeps(rows[cut:])]) == first).all()


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_shares_are_close_to_what_was_asked(seed):
    n, rows = 200_000, np.arange(200_000)
    held = RowSelection(seed, test=0.2, part="test").keeps(rows)
    sample = RowSelection(seed, fraction=0.3).keeps(rows)
    for mask, share in ((held, 0.2), (sample, 0.3), (held & sample, 0.06)):  # the two are independent
        assert abs(mask.mean() - share) < 5 * np.sqrt(share / n)
    neighbours = held[:-1] & held[1:]
    assert abs(neighbours.mean() - 0.04) < 5 * np.sqrt(0.04 / n)
    assert (held != RowSelection(seed + 1, test=0.2, part="test").keeps(rows)).any()


def test_a_range_of_rows():
    rows = np.arange(10)
    assert RowSelection(start=2, stop=5).keeps(rows).nonzero()[0].tolist() == [2, 3, 4]
    assert RowSelection(start=8).keeps(rows).nonzero()[0].tolist() == [8, 9]


def rows_of(data):
    """Every row of this rank's blocks with the shard it lies in, as comparable tuples."""
    found = []
    first = data.partition.shards_of(data.comm.rank).start
    for block in data.blocks():
        X = block.X.toarray() if sparse.issparse(block.X) else block.X
        shard = np.repeat(np.arange(block.n_shards), np.diff(block.shards))
        for i in range(block.n_rows):
            y = None if block.y is None else block.y[i]
            weight = None if block.weight is None else block.weight[i]
            found.append((int(block.index[i]), int(first + shard[i]), X[i].tobytes(), y, weight))
        first += block.n_shards
    return found


def cut_arrays(arrays, borders, rank):
    part = slice(borders[rank], borders[rank + 1])
    return [None if array is None else array[part] for array in arrays]


@settings(max_examples=50)
@given(
    n=st.integers(1, 400),
    d=st.sampled_from([1, 1100]),  # many columns make shards of 64 rows
    size=st.integers(1, 5),
    is_sparse=st.booleans(),
    has_y=st.booleans(),
    has_weight=st.booleans(),
    data=st.data(),
)
def test_any_split_gives_the_same_blocks(n, d, size, is_sparse, has_y, has_weight, data):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.5)
    arrays = [
        sparse.csr_array(X) if is_sparse else X,
        rng.normal(size=n) if has_y else None,
        rng.random(n) if has_weight else None,
    ]
    inner = data.draw(st.lists(st.integers(0, n), min_size=size - 1, max_size=size - 1).map(sorted))
    borders = [0, *inner, n]
    serial = ArrayDataset(*arrays, comm=SERIAL)
    expected = rows_of(serial)

    def program(comm):
        mine = ArrayDataset(*cut_arrays(arrays, borders, comm.rank), comm=comm)
        assert (mine.n_samples, mine.n_features) == (n, d)
        assert mine.partition.shard_rows == serial.partition.shard_rows
        by_shard = []
        for shard in mine.partition.shards_of(comm.rank):
            by_shard += [int(i) for block in mine.blocks(shard) for i in block.index]
        rows = rows_of(mine)
        own = mine.partition.shards_of(comm.rank)
        if len(own):  # the owner of a shard is the rank that was given its first row
            first = mine.partition.rows_of(own)[0]
            assert borders[comm.rank] <= first < borders[comm.rank + 1]
        assert by_shard == [row[0] for row in rows]
        return rows

    found = run_threads(size, program)
    assert [row for rows in found for row in rows] == expected


def test_messages_of_an_array_dataset():
    X = np.ones((5000, 4))

    def program(comm, borders):
        counting = CountingCommunicator(comm)
        ArrayDataset(*cut_arrays([X, X[:, 0]], borders, comm.rank), comm=counting)
        return dict(counting.calls)

    small = {"allreduce": 1, "allgather": 1}
    assert run_threads(2, lambda comm: program(comm, [0, 4096, 5000])) == [small] * 2
    assert run_threads(2, lambda comm: program(comm, [0, 100, 5000])) == [small | {"alltoall": 2}] * 2


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_rows_that_stay_are_not_copied(kind):
    """Of a rank whose last shard another has rows of, only that shard is copied."""
    X, borders = np.random.default_rng(0).random((5 * 4096, 4)), [0, 3 * 4096 + 7, 4 * 4096 + 7, 5 * 4096]

    def program(comm):
        rows = X[borders[comm.rank] : borders[comm.rank + 1]]
        own, y = kind(rows), rows[:, 0].copy()
        views = []
        for block in ArrayDataset(own, y, comm=comm).blocks():
            values = (block.X.data, own.data) if sparse.issparse(own) else (block.X, own)
            views.append((block.n_shards, np.shares_memory(*values), np.shares_memory(block.y, y)))
        return views

    assert run_threads(3, program) == [
        [(3, True, True), (1, False, False)],
        [(1, False, False)],
        [(0, False, False)],
    ]


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda X: X[::-1].copy()[::-1],
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "a list": lambda X: X.tolist(),
}


@pytest.mark.parametrize("shape", [(700, 5), (700, 1), (1, 5), (64, 64)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_in_memory_does_not_matter(layout, shape):
    X = np.random.default_rng(1).normal(size=shape)
    expected = next(ArrayDataset(X, comm=SERIAL).blocks()).X
    found = next(ArrayDataset(layout(X), comm=SERIAL).blocks()).X
    assert found.tobytes() == expected.tobytes()
    assert (found.strides, found.dtype, type(found)) == (expected.strides, expected.dtype, np.ndarray)
    assert found.strides == (8 * shape[1], 8)


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("u1", "f8"), ("?", "f8"), ("f2", "f8")],
)
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_types_of_numbers(given_type, kept, make):
    if given_type in ("f2", ">f4") and make is sparse.csr_array:
        pytest.skip("SciPy has no such sparse arrays")
    X = np.array([[0, 1], [1, 0], [1, 1]], given_type)
    block = next(ArrayDataset(make(X), np.array([0, 1, 0]), np.array([1, 2, 3]), comm=SERIAL).blocks())
    assert block.X.dtype == np.dtype(kept)
    assert block.X.dtype.isnative
    assert (block.y.dtype, block.weight.dtype) == (np.float64, np.float64)
    dense = block.X.toarray() if sparse.issparse(block.X) else block.X
    assert dense.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


def test_csr_as_it_comes():
    data, indices = [1.0, 2.0, 4.0, 8.0, 16.0], [2, 0, 2, 1, 1]
    messy = sparse.csr_array((data, indices, [0, 3, 3, 5]), shape=(3, 3))
    wide = sparse.csr_array(messy)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    dense = messy.toarray()
    for X in (messy, wide, messy.tocsc(), sparse.csr_matrix(messy), sparse.coo_array(messy)):
        dataset = ArrayDataset(X, comm=SERIAL)
        block = next(dataset.blocks())
        assert block.X.has_canonical_format
        assert (block.X.toarray() == dense).all()
        assert dataset.partition == ArrayDataset(messy, comm=SERIAL).partition
    assert messy.nnz == 5  # the caller's own is as it was


def test_the_type_of_csr_indices_does_not_change_the_partition():
    X = sparse.random_array((5000, 300), density=0.2, rng=0, format="csr")
    wide = X.copy()
    wide.indices, wide.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    assert ArrayDataset(X, comm=SERIAL).partition == ArrayDataset(wide, comm=SERIAL).partition


ROWS = np.ones((3, 2))
BAD = {
    "X has 3 rows and y has shape (2,)": [ROWS, np.ones(2)],
    "X has 3 rows and y has shape (3, 1)": [ROWS, np.ones((3, 1))],
    "X has 3 rows and weight has shape (4,)": [ROWS, np.ones(3), np.ones(4)],
    "X has shape (3,)": [np.ones(3)],
    "X has shape (3, 0)": [np.ones((3, 0))],
    "X is not numeric": [np.array([["a", "b"]] * 3)],
    "X is not numeric (its type is complex128)": [ROWS * 1j],
    "y is not numeric": [ROWS, np.array(["a", "b", "c"])],
}


@pytest.mark.parametrize(("sentence", "arrays"), BAD.items(), ids=BAD)
def test_what_is_refused_on_every_rank(sentence, arrays):
    good = [ROWS, *(np.ones(3) for _ in arrays[1:])]

    def program(comm):
        try:
            ArrayDataset(*(arrays if comm.rank == 1 else good), comm=comm)
        except DataError as error:
            return str(error), error.on_all_ranks

    found = run_threads(3, program)
    assert found[0][0].startswith(sentence)
    assert found == [(found[0][0], True)] * 3


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("columns", [np.ones((3, 1)), np.ones(3)]),
        ("dtype of X", [ROWS.astype(np.float32), np.ones(3)]),
        ("kind of X", [sparse.csr_array(ROWS), np.ones(3)]),
        ("y (given or not)", [ROWS, None]),
        ("weight (given or not)", [ROWS, np.ones(3), np.ones(3)]),
    ],
)
def test_ranks_that_differ(what, other):
    def program(comm):
        with pytest.raises(DataError) as caught:
            ArrayDataset(*(other if comm.rank == 1 else [ROWS, np.ones(3)]), comm=comm)
        return str(caught.value), caught.value.on_all_ranks

    found = run_threads(2, program)
    assert found[0][0].startswith(f"ranks differ in {what}: ")
    assert found[0] == found[1]
    assert found[0][1]


def test_no_rows_at_all():
    def program(comm):
        with pytest.raises(DataError, match="no rows") as caught:
            ArrayDataset(np.zeros((0, 2)), np.zeros(0), comm=comm)
        return caught.value.on_all_ranks

    assert run_threads(2, program) == [True, True]


@given(st.integers(0, 300), st.integers(1, 20), st.integers(1, 12))
def test_runs_of_shards(n_shards, runs, size):
    partition = make_partition(
        Source(n_shards * 64, 1, 8.0), size, shard_bytes=64 * 8, block_rows=64, runs=runs
    )
    assert partition.n_shards == n_shards
    assert partition.n_runs == min(runs, n_shards)
    shards = [s for i in range(partition.n_runs) for s in partition.run(i)]
    assert shards == list(range(n_shards))
    assert all(len(partition.run(i)) for i in range(partition.n_runs))
    owned = [i for rank in range(size) for i in partition.runs_of(rank)]
    assert owned == list(range(partition.n_runs))
    for rank in range(size):
        mine = [s for i in partition.runs_of(rank) for s in partition.run(i)]
        assert mine == list(partition.shards_of(rank))
