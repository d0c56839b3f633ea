"""A few rows chosen out of all by keys, on every process alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator
from hpcml.data import Block, Dataset, is_csr

__all__ = ["FewRows", "Keys", "LeastRows", "least_rows"]

Vector = NDArray[np.float64]
Keys = Callable[[Block], Vector]


class FewRows(NamedTuple):
    """Rows that every process has.

    Attributes
    ----------
    X : (rows, n_features) array
    weight : (rows,) array
    """

    X: NDArray[np.float64]
    weight: Vector


class LeastRows:
    """The rows of the least keys of those that were seen; equal keys go by the row's number.

    Parameters
    ----------
    n : int
        Most rows.
    n_features : int
    """

    def __init__(self, n: int, n_features: int) -> None:
        self._n = n
        self._keys, self._index = np.zeros(0), np.zeros(0, np.int64)
        self._rows = np.zeros((0, n_features + 1))

    def see(self, block: Block, keys: Vector) -> None:
        """Consider the rows of a block; one whose key is Inf is never taken. Local."""
        at = _least(keys, self._n)
        keys = np.concatenate([self._keys, keys[at]])
        index = np.concatenate([self._index, block.index[at]])
        X = block.X[at]
        dense = X.toarray() if is_csr(X) else X
        rows = np.concatenate([self._rows, np.column_stack([dense, block.weights[at]])])
        best = _first(keys, index, self._n)
        self._keys, self._index, self._rows = keys[best], index[best], rows[best]

    def gathered(self, comm: Communicator) -> FewRows:
        """Return the rows of the least keys over all processes, by rising key.

        Collective, three messages.
        """
        keys, index = _everyones(comm, self._keys, self._index)
        best = _first(keys, index, self._n)
        place = {row: i for i, row in enumerate(index[best].tolist())}
        mine = [i for i, row in enumerate(self._index.tolist()) if row in place]
        rows = np.zeros((best.size, self._rows.shape[1]))
        # All but one process add zeros to a number; that changes the sign of a zero, and nothing else.
        rows[[place[row] for row in self._index[mine].tolist()]] = self._rows[mine] + 0.0
        (rows,) = comm.allreduce(rows)
        return FewRows(np.ascontiguousarray(rows[:, :-1]), rows[:, -1].copy())


def least_rows(data: Dataset, n: int, keys: Sequence[Keys]) -> list[FewRows]:
    """Return the `n` rows of the least keys, or fewer, for each of some kinds of keys.

    Collective: one pass; three messages a kind.

    Parameters
    ----------
    data : Dataset
    n : int
    keys : sequence of callable
        Gives a number, maybe Inf, for each row of a block.
    """
    chosen = [LeastRows(n, data.n_features) for _ in keys]
    for block in data.blocks():
        for kept, keys_of in zip(chosen, keys, strict=True):
            kept.see(block, keys_of(block))
    return [kept.gathered(data.comm) for kept in chosen]


def _least(keys: Vector, n: int) -> NDArray[np.int64]:
    """Return the places of the n least finite keys; of equal ones the first, and no more than needed."""
    if keys.size > n:
        border = np.partition(keys, n - 1)[n - 1]
        below, equal = np.flatnonzero(keys < border), np.flatnonzero(keys == border)
        at = np.sort(np.concatenate([below, equal[: n - below.size]]))
    else:
        at = np.arange(keys.size)
    return np.asarray(at[keys[at] < np.inf])


def _first(keys: Vector, index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the places of the n least keys in order."""
    order: NDArray[np.int64] = np.lexsort((index, keys))
    return order[:n]


def _everyones(
    comm: Communicator, keys: Vector, index: NDArray[np.int64]
) -> tuple[Vector, NDArray[np.int64]]:
    mine = np.concatenate([keys.view(np.int64), index])
    received = comm.alltoall([mine.view(np.uint8)] * comm.size)
    halves = [part.view(np.int64).reshape(2, -1) for part in received]
    bits, numbers = np.concatenate(halves, axis=1)
    return bits.view(np.float64), np.asarray(numbers)
