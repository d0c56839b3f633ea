"""The rows of a shard that a rank border cuts, moved to the rank that owns the shard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator

__all__ = ["Move", "make_move"]

_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Move:
    """Which of this rank's rows go where.

    Parameters
    ----------
    comm : Communicator
    bounds : (size + 1,) array of int64
        Of my rows, ``bounds[r]:bounds[r + 1]`` go to rank r.
    """

    comm: Communicator
    bounds: _Indices

    def rows(self, values: NDArray[Any], bounds: _Indices | None = None) -> NDArray[Any]:
        """Return `values` of the rows that come to me, in order. Collective, two messages."""
        cuts = self.bounds if bounds is None else bounds
        parts = [values[a:b] for a, b in pairwise(cuts)]
        parts[self.comm.rank] = values[:0]
        sent = [np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts]
        came = [part.view(values.dtype).reshape(-1, *values.shape[1:]) for part in self.comm.alltoall(sent)]
        return np.concatenate(came)

    def csr_rows(self, X: Any) -> Any:
        """Return the CSR rows that come to me. Collective, six messages."""
        counts = self.rows(np.diff(X.indptr).astype(np.int64))
        entries = X.indptr[self.bounds].astype(np.int64)
        indices = self.rows(X.indices.astype(np.int64), entries)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        data = self.rows(X.data, entries)
        return sparse.csr_array((data, indices, indptr), shape=(counts.size, X.shape[1]))


def make_move(comm: Communicator, starts: _Indices, wanted: _Indices) -> Move | None:
    """Return the move from rows cut at `starts` to rows cut at `wanted`, or None if no row moves. Local.

    Both are (size + 1,) arrays, the same on every rank: rank r has the rows ``starts[r]:starts[r + 1]``.
    """
    if (starts == wanted).all():
        return None
    first, stop = starts[comm.rank : comm.rank + 2]
    return Move(comm, np.clip(wanted, first, stop) - first)
