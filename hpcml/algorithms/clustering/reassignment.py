"""New places for centres that few rows chose: rows of a batch, drawn by their distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.draws import draws_by
from hpcml.algorithms.clustering.least_rows import Keys
from hpcml.algorithms.kernels.nearest import Nearest

__all__ = ["drawing", "place", "starved"]

_START = 1 << 25
"""Steps draw by numbers that no start of a fit has."""

Vector = NDArray[np.float64]


def starved(counts: Vector, ratio: float) -> NDArray[np.int64]:
    """Return the centres whose count is below `ratio` times the largest, the most starved first. Local.

    The fullest one is none of them.
    """
    order = np.argsort(counts, kind="stable")[:-1]
    return np.asarray(order[counts[order] < ratio * counts.max(initial=0.0)])


def drawing(found: Nearest, seed: int, step: int) -> Keys:
    """Return keys ``u / (s d^2)`` of a block's rows, with their distances d and weights s. Local.

    The least ones are a draw of rows with chances about proportional to ``s d^2``; u is keyed by (seed, step,
    row).
    """
    return draws_by(lambda block: block.weights * found.distances, seed, _START + step, 0)


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
