"""New places for centres that few rows chose: rows of a batch, drawn by their distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.nearest import Nearest
from hpcml.collectives import Communicator
from hpcml.data import Block, is_csr
from hpcml.data.partition import uniform

__all__ = ["Drawn", "draw", "drawn_rows", "place", "starved"]

_STREAM = 1 << 40
"""Above the streams of the rows' own hashes; one is added for each step."""

Vector = NDArray[np.float64]


class Drawn(NamedTuple):
    """Rows with their keys, the least of which are taken.

    Attributes
    ----------
    keys : (n,) array
    numbers : (n,) array of int64
        Of the rows in the source.
    rows : (n, n_features) array
    """

    keys: Vector
    numbers: NDArray[np.int64]
    rows: Vector


def starved(counts: Vector, ratio: float) -> NDArray[np.int64]:
    """Return the centres whose count is below `ratio` times the largest, the most starved first. Local.

    The fullest one is none of them.
    """
    order = np.argsort(counts, kind="stable")[:-1]
    return np.asarray(order[counts[order] < ratio * counts.max(initial=0.0)])


def draw(block: Block, found: Nearest, n: int, seed: int, step: int) -> Drawn:
    """Return the n rows of a block with the least keys ``-log(1 - u) / (s d^2)``, those above 0. Local.

    u in [0, 1) is keyed by (seed, step, row), s is the weight and d the distance to the nearest centre.
    The least keys of all rows are a draw without replacement with chances proportional to ``s d^2``
    (Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003).
    """
    chance = block.weights * found.distances
    u = uniform(seed, _STREAM + step, block.index)
    keys = -np.log1p(-u) / np.where(chance > 0, chance, np.nan)
    best = np.lexsort((block.index, keys))[:n]
    best = best[np.isfinite(keys[best])]
    X = block.X[best]
    return Drawn(keys[best], block.index[best], np.asarray(X.toarray() if is_csr(X) else X, np.float64))


def drawn_rows(comm: Communicator, mine: Sequence[Drawn], n: int, n_features: int) -> Vector:
    """Return the n rows of least key over all ranks, (at most n, n_features), in the order of their keys.

    Collective, three small messages.
    """
    nothing = Drawn(np.zeros(0), np.zeros(0, np.int64), np.zeros((0, n_features)))
    keys, index, rows = (np.concatenate(parts) for parts in zip(nothing, *mine, strict=True))
    best = np.lexsort((index, keys))[:n]
    everyone = comm.allgather([keys[best].tolist(), index[best].tolist()])
    found = sorted(pair for one in everyone for pair in zip(*one, strict=True))[:n]
    where = {row: i for i, (_, row) in enumerate(found)}
    out = np.zeros((len(found), n_features))
    for i in best.tolist():
        if int(index[i]) in where:
            out[where[int(index[i])]] = rows[i]
    # A row is of one rank; the others add zeros.
    return np.asarray(comm.allreduce(out)[0])


def place(centers: Vector, counts: Vector, hungry: NDArray[np.int64], rows: Vector) -> tuple[Vector, Vector]:
    """Return centres and counts after the first of `hungry` moved to `rows`. Local.

    A centre that moved gets the least count of those that did not: it moves fast, and is not starved at once.
    """
    moved = hungry[: len(rows)]
    if not moved.size:
        return centers, counts
    centers, counts = centers.copy(), counts.copy()
    centers[moved] = rows
    counts[moved] = np.delete(counts, moved).min()
    return centers, counts
