"""Runs of whole shards as kernels take them, and the data sets that yield them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator
from hpcml.data.partition import RowPartition

__all__ = [
    "Block",
    "Dataset",
    "Matrix",
    "as_shard",
    "canonical",
    "is_csr",
    "join",
    "make_block",
    "own_runs",
    "own_shards",
    "part_of",
    "row_view",
    "run_of",
]

Matrix: TypeAlias = "NDArray[Any] | sparse.csr_array"


def is_csr(X: Any) -> TypeGuard[Any]:
    """Tell whether X holds sparse rows. Local."""
    # SciPy's own test goes through an abstract class, which costs as much as a small read.
    return not isinstance(X, np.ndarray) and bool(sparse.issparse(X))


@dataclass(frozen=True)
class Block:
    """The selected rows of a run of whole shards, as a kernel takes them.

    A streamed block is good until the next one is asked for: its X lies in memory that is used again.

    Parameters
    ----------
    X : (rows, n_features) array or csr_array
    y, weight : (rows,) array or None
        None for a data set without labels, and for weights that are all one.
    start : int
        Number of the run's first row in the source.
    shards : (n_shards + 1,) array of int64
        Rows ``shards[i]:shards[i + 1]`` belong to the i-th shard of the run.
    pieces : (n_blocks + 1,) array of int64
        Borders of the blocks: every border of a shard is one.
    kept : (rows,) array of int64, optional
        Which rows of the run these are; None for all of them.
    offset : (rows,) array, optional
        What is added to the raw predictions; None for zeros.
    """

    X: Matrix
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    start: int
    shards: NDArray[np.int64]
    pieces: NDArray[np.int64]
    kept: NDArray[np.int64] | None = None
    offset: NDArray[np.float64] | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.shards[-1])

    @property
    def index(self) -> NDArray[np.int64]:
        """Row numbers in the source, (rows,), made anew."""
        return self.index_of(0, self.n_rows)

    def index_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the source's numbers of the rows ``start:stop``. Local."""
        rows = np.arange(start, stop) if self.kept is None else self.kept[start:stop]
        return rows + self.start

    @property
    def n_shards(self) -> int:
        """Number of shards, empty ones included."""
        return self.shards.size - 1

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the rows, ones where none were given."""
        return np.ones(self.n_rows) if self.weight is None else self.weight

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Offsets of the rows, zeros where none were given."""
        return np.zeros(self.n_rows) if self.offset is None else self.offset

    def without_rows(self) -> Block:
        """Return the block without X, for what is kept of it besides. Local."""
        return replace(self, X=np.zeros((0, 0)))

    def without_offset(self) -> Block:
        """Return the block without offsets, for products with a direction. Local."""
        return self if self.offset is None else replace(self, offset=None)

    def shard_sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over each shard's rows, added in order; `values` is (rows,) or (rows, n). Local."""
        zero = np.zeros((1, *values.shape[1:]))
        # A row of zeros is a segment of its own at the end: an empty shard may start there, and no shard's
        # sum, whose grouping follows its length, may take it in.
        sums = np.add.reduceat(np.concatenate([values, zero]), self.shards, axis=0)[:-1]
        sums[self.shards[:-1] == self.shards[1:]] = 0.0
        return sums


def make_block(
    X: Matrix,
    y: NDArray[Any] | None,
    weight: NDArray[Any] | None,
    shards: range,
    partition: RowPartition,
    keep: NDArray[np.bool_] | None = None,
    *,
    offset: NDArray[Any] | None = None,
) -> Block:
    """Return the block of all stored rows of a run of shards, those that `keep` marks, compacted. Local.

    A dense X that may be written is compacted in its own memory.
    """
    X = canonical(X) if is_csr(X) else X
    start, stop = partition.rows_of(shards)
    shard_rows, piece_rows = _borders(partition.shard_rows, partition.block_rows, len(shards), stop - start)
    kept = None
    if keep is not None:
        before = np.concatenate([[0], np.cumsum(keep)])
        X = X[keep] if is_csr(X) else _compacted(X, keep, piece_rows)
        shard_rows, piece_rows, kept = before[shard_rows], before[piece_rows], np.flatnonzero(keep)
    labels, weights, offsets = (_column(values, keep) for values in (y, weight, offset))
    return Block(X, labels, weights, start, shard_rows, piece_rows, kept, offsets)


def _column(values: NDArray[Any] | None, keep: NDArray[np.bool_] | None) -> NDArray[np.float64] | None:
    if values is None:
        return None
    return np.ascontiguousarray(values if keep is None else values[keep], np.float64)


def _compacted(X: NDArray[Any], keep: NDArray[np.bool_], borders: NDArray[np.int64]) -> NDArray[Any]:
    """Move the kept rows to the front, block by block so that the copies stay in the processor's cache."""
    if not X.flags.writeable:
        return np.asarray(X[keep])
    at = 0
    for start, stop in pairwise(borders.tolist()):
        rows = X[start:stop][keep[start:stop]]
        X[at : at + len(rows)] = rows
        at += len(rows)
    return X[:at]


@lru_cache(64)
def _borders(
    shard_rows: int, block_rows: int, n_shards: int, n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where shards and blocks start in a run of shards that has `n_rows` rows."""
    shards = np.minimum(np.arange(n_shards + 1) * shard_rows, n_rows)
    blocks = [np.arange(first, min(first + shard_rows, n_rows), block_rows) for first in shards[:-1]]
    pieces = np.unique(np.concatenate([shards, *blocks]))
    for borders in (shards, pieces):
        borders.flags.writeable = False  # shared by all blocks of this shape
    return shards, pieces


def canonical(X: Any) -> Any:
    """Return CSR rows with sorted columns, each once: how entries were stored then changes no sum. Local."""
    if X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def part_of(block: Block, i: int) -> Block:
    """Return the i-th shard of a block. Local."""
    return run_of(block, i, i + 1)


def run_of(block: Block, first: int, last: int) -> Block:
    """Return the shards ``first:last`` of a block, at least one. Local."""
    start, stop = int(block.shards[first]), int(block.shards[last])
    return replace(as_shard(block, start, stop), shards=block.shards[first : last + 1] - start)


def as_shard(block: Block, start: int, stop: int) -> Block:
    """Return the rows ``start:stop`` of a block as a shard of their own. Local."""
    rows, pieces = slice(start, stop), block.pieces
    inside = pieces[(pieces > start) & (pieces < stop)]
    borders = np.concatenate([[start], inside, [stop] if stop > start else []]).astype(np.int64)
    return Block(
        row_view(block.X, start, stop),
        None if block.y is None else block.y[rows],
        None if block.weight is None else block.weight[rows],
        block.start + (start if block.kept is None else 0),
        np.array([0, stop - start]),
        borders - start,
        None if block.kept is None else block.kept[rows],
        None if block.offset is None else block.offset[rows],
    )


def row_view(X: Matrix, start: int, stop: int) -> Matrix:
    """Return rows as a view; SciPy's own slicing of CSR copies and checks. Local."""
    if not is_csr(X):
        return X[start:stop]
    first, last = X.indptr[start], X.indptr[stop]
    view = sparse.csr_array((stop - start, X.shape[1]), dtype=X.dtype)
    view.data, view.indices = X.data[first:last], X.indices[first:last]
    view.indptr = X.indptr[start : stop + 1] - first
    return view


def join(blocks: Iterable[Block], n_rows: int) -> Block:
    """Return consecutive blocks, at least one, as one block of `n_rows` rows. Local.

    Every array is copied, so streamed blocks may be given; memory holds a dense X once.
    """
    parts: list[Block] = []
    gather: _Gathered | None = None
    for block in blocks:
        gather = gather or _Gathered(block.X, n_rows)
        gather.take(block.X)
        parts.append(block.without_rows())
    assert gather is not None
    starts = np.cumsum([0, *(part.n_rows for part in parts)])
    first = parts[0].start

    def borders(name: str) -> NDArray[np.int64]:
        moved = [getattr(part, name)[:-1] + at for part, at in zip(parts, starts[:-1], strict=True)]
        return np.concatenate([*moved, starts[-1:]])

    def column(values: list[NDArray[Any] | None]) -> NDArray[Any] | None:
        given = [value for value in values if value is not None]
        return np.concatenate(given) if given else None

    return Block(
        gather.rows(),
        column([part.y for part in parts]),
        column([part.weight for part in parts]),
        first,
        borders("shards"),
        borders("pieces"),
        column([None if part.kept is None else part.kept + (part.start - first) for part in parts]),
        column([part.offset for part in parts]),
    )


class _Gathered:
    """Rows of X copied one run after another, a dense X to its place."""

    def __init__(self, like: Matrix, n_rows: int) -> None:
        self._n_features = like.shape[1]
        self._parts: list[Any] = []
        self._dense = None if is_csr(like) else np.empty((n_rows, self._n_features), like.dtype)
        self._at = 0

    def take(self, X: Any) -> None:
        """Copy the next rows."""
        if self._dense is None:
            self._parts.append((X.data.copy(), X.indices.copy(), np.diff(X.indptr)))
        else:
            self._dense[self._at : self._at + X.shape[0]] = X
            self._at += X.shape[0]

    def rows(self) -> Matrix:
        """Return what was taken."""
        if self._dense is not None:
            return self._dense
        data, indices, counts = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return sparse.csr_array((data, indices, indptr), shape=(counts.size, self._n_features))


def own_runs(data: Dataset) -> range:
    """Return the runs of shards that this process owns. Local."""
    return data.partition.runs_of(data.comm.rank)


def own_shards(data: Dataset) -> range:
    """Return the shards that this process owns. Local."""
    return data.partition.shards_of(data.comm.rank)


class Dataset(Protocol):
    """Rows that algorithms can pass over, shard by shard.

    Everything but the communicator's verbs is Local.
    """

    @property
    def comm(self) -> Communicator:
        """The ranks that share the rows."""

    @property
    def n_samples(self) -> int:
        """Number of selected rows over all ranks."""

    @property
    def n_features(self) -> int:
        """Number of columns of X."""

    @property
    def partition(self) -> RowPartition:
        """The cut of the source rows into shards."""

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield this rank's rows in order as runs of whole shards, or one owned shard."""
