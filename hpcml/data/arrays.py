"""Rows in memory, given by each rank for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator, agreed
from hpcml.data.block import Block, Matrix, canonical, is_csr, make_block, part_of, row_view
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
    X that is so already is not copied, but for the shards whose rows came from other ranks.

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
        self._blocks = [
            make_block(*part[:3], shards, self.partition, offset=part.offset)
            for part, shards in _whole_shards(comm, self.partition, starts, rows)
        ]
        self._parts: dict[int, Block] = {}  # samples ask for the same shards again and again

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield all my rows, or those of one shard of mine. Local.

        They are one block, or two where rows came from other ranks: those and the rest.
        """
        if shard is None:
            yield from self._blocks
            return
        if shard not in self._parts:
            self._parts[shard] = self._part(shard)
        yield self._parts[shard]

    def _part(self, shard: int) -> Block:
        i = shard - self.partition.shards_of(self.comm.rank).start
        first = self._blocks[0]
        return part_of(first, i) if i < first.n_shards else part_of(self._blocks[1], i - first.n_shards)


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


def _whole_shards(
    comm: Communicator, partition: RowPartition, starts: NDArray[np.int64], rows: _Rows
) -> list[tuple[_Rows, range]]:
    """Return the rows of my shards: those that were here all along as views, and a copy of the others.

    Collective where a border cuts a shard.
    """
    mine = partition.shards_of(comm.rank)
    wanted = np.minimum(np.array(partition.borders) * partition.shard_rows, partition.n_samples)
    move = make_move(comm, starts, wanted)
    if move is None:
        return [(rows, mine)]
    # A shard is its first row's rank's, so rows come from later ranks alone.
    columns = (None if column is None else move.rows(column) for column in rows[1:])
    came = _Rows(move.csr_rows(rows.X) if is_csr(rows.X) else move.rows(rows.X), *columns)
    first, stop = move.bounds[comm.rank : comm.rank + 2].tolist()
    if came.X.shape[0] == 0:
        return [(_part(rows, first, stop), mine)]
    n_whole = (stop - first) // partition.shard_rows
    cut = first + n_whole * partition.shard_rows
    border = mine.start + n_whole
    here, there = _part(rows, first, cut), _joined(_part(rows, cut, stop), came)
    runs = [(here, range(mine.start, border)), (there, range(border, mine.stop))]
    return runs if n_whole else runs[1:]


def _part(rows: _Rows, start: int, stop: int) -> _Rows:
    """Return some rows as views."""
    X = row_view(rows.X, start, stop)
    if is_csr(X):
        X.has_canonical_format = True  # as all rows have
    return _Rows(X, *(None if column is None else column[start:stop] for column in rows[1:]))


def _joined(first: _Rows, second: _Rows) -> _Rows:
    if is_csr(first.X):
        X = sparse.vstack([first.X, second.X], format="csr")
    else:
        X = np.concatenate([first.X, second.X])
    pairs = zip(first[1:], second[1:], strict=True)
    return _Rows(X, *(None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs))
