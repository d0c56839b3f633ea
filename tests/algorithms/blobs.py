"""Rows in groups, and what k-means is computed from them in plain NumPy."""

from __future__ import annotations

import numpy as np
from algorithms.problems import Problem


def blobs(n=400, d=4, k=5, spread=1.0, seed=0, weighted=False):
    """Rows around k centres, 3 apart as a rule; with `weighted`, weights of 0 to 3."""
    rng = np.random.default_rng(seed)
    centers = 3 * rng.normal(size=(k, d))
    X = centers[rng.integers(0, k, n)] + spread * rng.normal(size=(n, d))
    weight = rng.integers(0, 4, n).astype(float) if weighted else None
    return Problem(X, np.zeros(n), weight)


def squared(X, centers):
    """Squared distances of rows to centres, (rows, k)."""
    return np.square(np.asarray(X, float)[:, None] - centers).sum(axis=2)


def plain_inertia(problem, centers):
    s = np.ones(len(problem.X)) if problem.weight is None else problem.weight
    return float(s @ squared(problem.X, centers).min(axis=1))


class Passes:
    """A data set that counts the passes over it."""

    def __init__(self, data):
        self._data, self.passes = data, 0

    def __getattr__(self, name):
        return getattr(self._data, name)

    def blocks(self, shard=None):
        self.passes += 1
        return self._data.blocks(shard)
