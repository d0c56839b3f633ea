"""Rows, blocks, shards and who owns them: the data that algorithms see.

A *block* is the rows that a kernel works on at a time, a *shard* the rows whose sum is one term of a
reproducible reduction. Both follow from the data and the spec alone; a rank owns a contiguous run of
whole shards, maybe none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, on_all_ranks
from hpcml.moves import make_move

__all__ = [
    "ArrayDataset",
    "Block",
    "Dataset",
    "Matrix",
    "RowPartition",
    "RowSelection",
    "Source",
    "is_csr",
    "make_block",
    "make_partition",
    "part_of",
]

Matrix: TypeAlias = "NDArray[Any] | sparse.csr_array"

_INDEX_BYTES = 4
_BLOCK_BYTES = 512 << 10
_SHARD_BYTES = 64 << 20
_SHARDS = 1024


@dataclass(frozen=True)
class RowPartition:
    """Cut rows into shards and blocks, and hand shards out to ranks: pure arithmetic.

    Parameters
    ----------
    n_samples : int
    shard_rows : int
        Rows of a shard; the last one may be shorter.
    block_rows : int
        Rows of a block, counted from the start of its shard.
    borders : tuple of int
        Rank r owns the shards ``borders[r] <= s < borders[r + 1]``.
    """

    n_samples: int
    shard_rows: int
    block_rows: int
    borders: tuple[int, ...]

    @property
    def n_shards(self) -> int:
        """Number of shards over all ranks."""
        return -(-self.n_samples // self.shard_rows)

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.borders) - 1

    def shards_of(self, rank: int) -> range:
        """Return the shards that `rank` owns."""
        return range(self.borders[rank], self.borders[rank + 1])

    def rows_of(self, shards: range) -> tuple[int, int]:
        """Return the first row of a run of shards and the row after its last."""
        start, stop = shards.start * self.shard_rows, shards.stop * self.shard_rows
        return min(start, self.n_samples), min(stop, self.n_samples)


@dataclass(frozen=True)
class Source:
    """What decides a partition: the shape of the stored rows, nothing of the machine.

    Parameters
    ----------
    n_samples, n_features : int
    row_bytes : float
        Mean bytes of a row of X.
    chunk_rows : int
        Rows of a stored HDF5 chunk, 1 where rows are contiguous.
    """

    n_samples: int
    n_features: int
    row_bytes: float
    chunk_rows: int = 1


def make_partition(
    source: Source, size: int, *, shard_bytes: int | None = None, block_rows: int | None = None
) -> RowPartition:
    """Return the partition of `source` over `size` ranks, shards dealt out evenly. Local.

    A block has the power of two of rows, 64 to 4096, with at most 512 KiB; a shard has a 1024th of
    the bytes, at least one block and at most 64 MiB, in whole blocks and whole stored chunks.
    """
    row_bytes = max(source.row_bytes, 1.0)
    fitting = int(max(_BLOCK_BYTES / row_bytes, 1.0)).bit_length() - 1
    block = block_rows or min(max(1 << fitting, 64), 4096)
    wanted = shard_bytes or min(source.n_samples * row_bytes / _SHARDS, _SHARD_BYTES)
    # Chunks need not be a multiple of blocks: the grid of blocks starts anew in each shard.
    unit = source.chunk_rows if source.chunk_rows > block else block
    rows = max(1, round(wanted / row_bytes / unit)) * unit
    if source.chunk_rows > 1:
        rows = -(-rows // source.chunk_rows) * source.chunk_rows
    n_shards = -(-source.n_samples // rows)
    return RowPartition(source.n_samples, rows, block, tuple(n_shards * r // size for r in range(size + 1)))


@dataclass(frozen=True)
class RowSelection:
    """Which rows take part: a range, a hashed sample, and one side of a hashed split.

    Membership is a function of the seed and the row's number in the source, so it is the same for any
    number of ranks. Two hashes, one for the sample and one for the split, are independent.

    Parameters
    ----------
    seed : int
    start, stop : int, int or None
        Range of source rows.
    fraction : float
        Share of the rows that the sample keeps.
    test : float
        Share of the kept rows that is the test part.
    part : {"all", "train", "test"}
    """

    seed: int = 0
    start: int = 0
    stop: int | None = None
    fraction: float = 1.0
    test: float = 0.0
    part: str = "all"

    def keeps(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the source rows take part. Local."""
        mask = rows >= self.start
        if self.stop is not None:
            mask &= rows < self.stop
        if self.fraction < 1.0:
            mask &= _uniform(self.seed, 1, rows) < self.fraction
        if self.part == "all":
            return mask
        is_test = _uniform(self.seed, 2, rows) < self.test
        return mask & (is_test if self.part == "test" else ~is_test)


def _uniform(seed: int, stream: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) keyed by (seed, stream, row): SplitMix64, doi:10.1145/2660193.2660195."""
    with np.errstate(over="ignore"):
        key = _mixed(np.uint64(seed % 2**64) + np.uint64(stream) * np.uint64(0x9E3779B97F4A7C15))
        bits = _mixed(key ^ _mixed(rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, np.float64)


def _mixed(z: Any) -> Any:
    """Return the finalizer of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


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
    X = _canonical(X) if is_csr(X) else X
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


def _canonical(X: Any) -> Any:
    """Return CSR rows with sorted columns, each once: sums then do not depend on how entries were stored."""
    if X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def _pieces(partition: RowPartition, shard: int, stop: int) -> NDArray[np.int64]:
    """Return where the blocks of a shard start."""
    first = shard * partition.shard_rows
    return np.arange(first, min(first + partition.shard_rows, stop), partition.block_rows)


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


class ArrayDataset:
    """Rows in memory; with a communicator, each rank's own rows in rank order.

    Collective: three small messages, and where a rank border cuts a shard an exchange in which its rows
    move to the rank that has its first one. The bits of a result then do not depend on how the rows were
    split, nor on their layout in memory: X is used in C order or as canonical CSR, in float64 unless it is float32.

    Parameters
    ----------
    X : (my rows, n_features) array or CSR
        A rank without rows gives shape (0, n_features).
    y, weight : (my rows,) array, optional
    comm : Communicator

    Raises
    ------
    DataError
        X is not a numeric matrix, lengths differ, ranks differ in columns, dtype or kind, or there are no rows.
    """

    def __init__(
        self,
        X: Matrix,
        y: NDArray[Any] | None = None,
        weight: NDArray[Any] | None = None,
        *,
        comm: Communicator,
    ) -> None:
        with agreed(comm):
            rows = _checked(X, y, weight)
        facts = [_Facts(*one) for one in comm.allgather(_facts_of(rows))]
        _check_alike(facts)
        starts = np.concatenate([[0], np.cumsum([one.n_rows for one in facts])])
        n = int(starts[-1])
        source = Source(n, facts[0].n_features, sum(one.n_bytes for one in facts) / n)
        self.comm = comm
        self.n_samples = n
        self.n_features = source.n_features
        self.partition = _owned_by_first_row(make_partition(source, comm.size), starts)
        rows = _with_whole_shards(comm, self.partition, starts, rows)
        self._block = make_block(*rows, self.partition.shards_of(comm.rank), self.partition)

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield all my rows as one block, or those of one shard of mine. Local."""
        if shard is None:
            yield self._block
        else:
            yield part_of(self._block, shard - self.partition.shards_of(self.comm.rank).start)


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


class _Rows(NamedTuple):
    """One rank's rows as they are used."""

    X: Matrix
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None


def _checked(X: Any, y: Any, weight: Any) -> _Rows:
    X = _matrix(X)
    return _Rows(X, _column("y", y, X.shape[0]), _column("weight", weight, X.shape[0]))


def _matrix(X: Any) -> Matrix:
    """Return X as canonical CSR, or dense in C order with a row's own strides."""
    X = sparse.csr_array(X) if is_csr(X) else np.asarray(X)
    if X.ndim != 2 or X.shape[1] == 0:
        raise DataError(f"X has shape {X.shape}; it needs rows and columns")
    if X.dtype.kind not in "fiub":
        raise DataError(f"X is not numeric (its type is {X.dtype})")
    dtype = np.dtype(np.float32 if X.dtype.newbyteorder("=") == np.float32 else np.float64)
    if is_csr(X):
        return _canonical(X.astype(dtype, copy=False))
    # One row or one column may have any stride there and still be contiguous; BLAS is called by strides.
    return np.ascontiguousarray(X, dtype).reshape(-1).reshape(X.shape)


def _column(name: str, values: Any, n_rows: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    values = np.asarray(values)
    if values.shape != (n_rows,):
        raise DataError(f"X has {n_rows} rows and {name} has shape {values.shape}")
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name} is not numeric (its type is {values.dtype})")
    return np.ascontiguousarray(values, np.float64)


class _Facts(NamedTuple):
    """What ranks tell each other of their rows."""

    n_rows: int
    n_features: int
    n_bytes: int
    dtype: str
    kind: str
    has_y: bool
    has_weight: bool


def _facts_of(rows: _Rows) -> _Facts:
    X, y, weight = rows
    # Columns count as 4 bytes however they are stored: the partition must not follow from a type of index.
    n_bytes = X.nnz * (X.dtype.itemsize + _INDEX_BYTES) if is_csr(X) else X.nbytes
    kind = "CSR" if is_csr(X) else "dense"
    n_rows, n_features = map(int, X.shape)
    return _Facts(n_rows, n_features, int(n_bytes), str(X.dtype), kind, y is not None, weight is not None)


def _check_alike(facts: list[_Facts]) -> None:
    """Refuse ranks that differ; all see the same facts."""
    names = {
        "n_features": "columns",
        "dtype": "dtype of X",
        "kind": "kind of X",
        "has_y": "having y",
        "has_weight": "having weights",
    }
    for field, what in names.items():
        values = [getattr(one, field) for one in facts]
        if len(set(values)) > 1:
            raise on_all_ranks(DataError(f"ranks differ in {what}: {', '.join(map(str, values))}"))
    if not any(one.n_rows for one in facts):
        raise on_all_ranks(DataError("there are no rows"))


def _owned_by_first_row(partition: RowPartition, starts: NDArray[np.int64]) -> RowPartition:
    """Give each shard to the rank that has its first row."""
    borders = np.minimum(-(-starts // partition.shard_rows), partition.n_shards)
    borders[-1] = partition.n_shards
    return replace(partition, borders=tuple(int(border) for border in borders))


def _with_whole_shards(
    comm: Communicator, partition: RowPartition, starts: NDArray[np.int64], rows: _Rows
) -> _Rows:
    """Return the rows of my shards. Collective where a border cuts a shard."""
    wanted = np.minimum(np.array(partition.borders) * partition.shard_rows, partition.n_samples)
    move = make_move(comm, starts, wanted)
    if move is None:
        return rows
    X = move.csr_rows(rows.X) if is_csr(rows.X) else move.rows(rows.X)
    return _Rows(X, *(None if column is None else move.rows(column) for column in rows[1:]))
