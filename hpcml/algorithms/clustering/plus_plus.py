"""k-means++ over a few rows in memory, the same on every process. All Local."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.least_rows import FewRows

__all__ = ["plus_plus"]

Vector = NDArray[np.float64]


def plus_plus(rows: FewRows, k: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return k of the rows, far apart: greedy k-means++ with weights, (k, n_features).

    Each centre is the best of ``2 + log k`` rows, drawn with probability ``s_i D_i``; D_i is the squared
    distance to the nearest centre so far (Arthur and Vassilvitskii 2007, doi:10.5555/1283383.1283494).
    Where fewer than k rows are distinct, rows stand for several centres.

    Parameters
    ----------
    rows : FewRows
        At least one.
    k : int
    random : Generator
        Alike on every process.
    """
    places = _drawn(np.cumsum(rows.weight), random.random(1))
    nearest = _squared(rows.X, rows.X[places[0]])
    n_trials = 2 + int(math.log(k))
    while len(places) < min(k, len(rows.X)):
        cumulated = np.cumsum(rows.weight * nearest)
        if not cumulated[-1] > 0:
            break
        trials = _drawn(cumulated, random.random(n_trials))
        distances = [np.minimum(nearest, _squared(rows.X, rows.X[i])) for i in trials]
        best = int(np.argmin([np.sum(rows.weight * distance) for distance in distances]))
        nearest = distances[best]
        places.append(trials[best])
    return np.asarray(rows.X[np.resize(places, k)])


def _drawn(cumulated: Vector, u: Vector) -> list[int]:
    """Return places drawn with the probabilities that were cumulated, for u in [0, 1)."""
    at = np.searchsorted(cumulated, u * cumulated[-1], side="right")
    # Rounding may reach the end; the last place of any probability is where the sum gets there.
    last = np.searchsorted(cumulated, cumulated[-1])
    return [int(i) for i in np.minimum(at, last)]


def _squared(X: NDArray[np.float64], center: Vector) -> Vector:
    return np.asarray(np.square(X - center).sum(axis=1))
