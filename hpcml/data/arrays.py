"""Rows in memory, given by each rank for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator, agreed
from hpcml.data.block import Block, Matrix, canonical, is_csr, make_block, part_of
from hpcml.data.moves import make_move
from hpcml.data.partition import RowPartition, Source, make_partition
from hpcml.errors import DataError, shared

__all__ = ["ArrayDataset"]

_INDEX_BYTES = 4


class ArrayDataset:
    """Rows in memory; with a communicator, each rank's own rows in rank order.

    Collective: three small messages, and where a rank border cuts a shard an exchange in which its rows
    move to the rank that has its first one. The bits of a result then do not depend on how the rows were
    split, nor on their layout in memory: X is used in C order or as canonical CSR, float32 or else float64.

    Parameters
    ----------
    X : (my rows, n_features) array or CSR
        A rank without rows gives shape (0, n_features).
    y, weight, offset : (my rows,) array, optional
    comm : Communicator
    runs : int, optional
        Runs of shards that a rank owns whole: the subproblems of a solver that has them.

    Raises
    ------
    DataError
        X is not a numeric matrix, lengths differ, ranks differ in columns, dtype or kind, or there are
        no rows.
    """

    def __init__(
        self,
        X: Matrix,
        y: NDArray[Any] | None = None,
        weight: NDArray[Any] | None = None,
        offset: NDArray[Any] | None = None,
        *,
        comm: Communicator,
        runs: int | None = None,
    ) -> None:
        with agreed(comm):
            rows = _checked(X, y, weight, offset)
        facts = [_Facts(*one) for one in comm.allgather(_facts_of(rows))]
        _check_alike(facts)
        starts = np.concatenate([[0], np.cumsum([one.n_rows for one in facts])])
        n = int(starts[-1])
        source = Source(n, facts[0].n_features, sum(one.n_bytes for one in facts) / n)
        self.comm = comm
        self.n_samples = n
        self.n_features = source.n_features
        self.partition = _owned_by_first_row(make_partition(source, comm.size, runs=runs), starts)
        rows = _with_whole_shards(comm, self.partition, starts, rows)
        mine = self.partition.shards_of(comm.rank)
        self._block = make_block(*rows[:3], mine, self.partition, offset=rows.offset)

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield all my rows as one block, or those of one shard of mine. Local."""
        if shard is None:
            yield self._block
        else:
            yield part_of(self._block, shard - self.partition.shards_of(self.comm.rank).start)


class _Rows(NamedTuple):
    """One rank's rows as they are used."""

    X: Matrix
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None


def _checked(X: Any, y: Any, weight: Any, offset: Any) -> _Rows:
    X = _matrix(X)
    columns = {"y": y, "weight": weight, "offset": offset}
    return _Rows(X, *(_column(name, values, X.shape[0]) for name, values in columns.items()))


def _matrix(X: Any) -> Matrix:
    """Return X as canonical CSR, or dense in C order with a row's own strides."""
    X = sparse.csr_array(X) if is_csr(X) else np.asarray(X)
    if X.ndim != 2 or X.shape[1] == 0:
        raise DataError(f"X has shape {X.shape}; it needs rows and columns")
    if X.dtype.kind not in "fiub":
        raise DataError(f"X is not numeric (its type is {X.dtype})")
    dtype = np.dtype(np.float32 if X.dtype.newbyteorder("=") == np.float32 else np.float64)
    if is_csr(X):
        return canonical(X.astype(dtype, copy=False))
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
    has_offset: bool


def _facts_of(rows: _Rows) -> _Facts:
    X, *columns = rows
    # Columns count as 4 bytes however they are stored: the partition must not follow from a type of index.
    n_bytes = X.nnz * (X.dtype.itemsize + _INDEX_BYTES) if is_csr(X) else X.nbytes
    kind = "CSR" if is_csr(X) else "dense"
    n_rows, n_features = map(int, X.shape)
    given = (column is not None for column in columns)
    return _Facts(n_rows, n_features, int(n_bytes), str(X.dtype), kind, *given)


def _check_alike(facts: list[_Facts]) -> None:
    """Refuse ranks that differ; all see the same facts."""
    names = {
        "n_features": "columns",
        "dtype": "dtype of X",
        "kind": "kind of X",
        "has_y": "y (given or not)",
        "has_weight": "weight (given or not)",
        "has_offset": "offset (given or not)",
    }
    for field, what in names.items():
        values = [getattr(one, field) for one in facts]
        if len(set(values)) > 1:
            raise shared(DataError(f"ranks differ in {what}: {', '.join(map(str, values))}"))
    if not any(one.n_rows for one in facts):
        raise shared(DataError("there are no rows"))


def _owned_by_first_row(partition: RowPartition, starts: NDArray[np.int64]) -> RowPartition:
    """Give each run of shards to the rank that has its first row."""
    firsts = np.array([partition.run(i).start for i in range(partition.n_runs)] + [partition.n_shards])
    wanted = np.minimum(-(-starts // partition.shard_rows), partition.n_shards)
    borders = firsts[np.searchsorted(firsts, wanted)]
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
