"""Runs of whole shards as kernels take them, and the data sets that yield them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator
from hpcml.data.partition import RowPartition, RowSelection

__all__ = ["Block", "Dataset", "Matrix", "canonical", "is_csr", "make_block", "part_of"]

Matrix: TypeAlias = "NDArray[Any] | sparse.csr_array"


def is_csr(X: Any) -> TypeGuard[Any]:
    """Tell whether X holds sparse rows. Local."""
    return bool(sparse.issparse(X))


@dataclass(frozen=True)
class Block:
    """The selected rows of a run of whole shards, as a kernel takes them.

    Parameters
    ----------
    X : (rows, n_features) array or csr_array
    y, weight : (rows,) array or None
        None for a data set without labels, and for weights that are all one.
    index : (rows,) array of int64
        Row numbers in the source.
    shards : (n_shards + 1,) array of int64
        Rows ``shards[i]:shards[i + 1]`` belong to the i-th shard of the run.
    pieces : (n_blocks + 1,) array of int64
        Borders of the blocks: every border of a shard is one.
    """

    X: Matrix
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    index: NDArray[np.int64]
    shards: NDArray[np.int64]
    pieces: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.index.size)

    @property
    def n_shards(self) -> int:
        """Number of shards, empty ones included."""
        return self.shards.size - 1

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the rows, ones where none were given."""
        return np.ones(self.n_rows) if self.weight is None else self.weight

    def without_rows(self) -> Block:
        """Return the block without X, for what is kept of it besides. Local."""
        return replace(self, X=np.zeros((0, 0)))

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
    selection: RowSelection | None = None,
) -> Block:
    """Return the block of all stored rows of a run of shards, selected and compacted. Local."""
    X = canonical(X) if is_csr(X) else X
    start, stop = partition.rows_of(shards)
    index = np.arange(start, stop)
    shard_starts = np.clip(np.arange(shards.start, shards.stop + 1) * partition.shard_rows, start, stop)
    piece_starts = np.unique(np.concatenate([shard_starts, *(_pieces(partition, s, stop) for s in shards)]))
    if selection is not None:
        keep = selection.keeps(index)
        before = np.concatenate([[0], np.cumsum(keep)])
        shard_rows, piece_rows = before[shard_starts - start], before[piece_starts - start]
        X, index = X[keep], index[keep]
        y = None if y is None else y[keep]
        weight = None if weight is None else weight[keep]
    else:
        shard_rows, piece_rows = shard_starts - start, piece_starts - start
    labels = None if y is None else np.ascontiguousarray(y, np.float64)
    weights = None if weight is None else np.ascontiguousarray(weight, np.float64)
    return Block(X, labels, weights, index, shard_rows, piece_rows)


def canonical(X: Any) -> Any:
    """Return CSR rows with sorted columns, each once: how entries were stored then changes no sum. Local."""
    if X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def _pieces(partition: RowPartition, shard: int, stop: int) -> NDArray[np.int64]:
    """Return where the blocks of a shard start."""
    first = shard * partition.shard_rows
    return np.arange(first, min(first + partition.shard_rows, stop), partition.block_rows)


def part_of(block: Block, i: int) -> Block:
    """Return the i-th shard of a block. Local."""
    start, stop = block.shards[i : i + 2]
    inside = (block.pieces >= start) & (block.pieces <= stop)
    return Block(
        block.X[start:stop],
        None if block.y is None else block.y[start:stop],
        None if block.weight is None else block.weight[start:stop],
        block.index[start:stop],
        np.array([0, stop - start]),
        block.pieces[inside] - start,
    )


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
