"""The consensus of subproblems from sums that are kept, not taken anew."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.quadratic import minimise_model

__all__ = ["RunningSums", "packed", "unpacked"]

_SINGULAR = 1e-8
"""Share of the mean curvature that holds w where no row does."""


@lru_cache(4)
def _upper(n: int) -> tuple[NDArray[Any], ...]:
    """Return rows and columns of the upper triangle: finding them costs as much as a small pass."""
    return np.triu_indices(n)


def packed(slope: Vector, hessian: NDArray[np.float64]) -> Vector:
    """Return a slope and the upper triangle of a Hessian one after the other. Local."""
    return np.concatenate([slope, hessian[_upper(slope.size)]])


def unpacked(sums: Vector, n: int) -> tuple[Vector, NDArray[np.float64]]:
    """Return the slope of n parameters and the whole Hessian. Local."""
    hessian = np.zeros((n, n))
    hessian[_upper(n)] = sums[n:]
    return sums[:n], hessian + np.triu(hessian, 1).T


class RunningSums:
    """Keeps ``s = sum_k s_k`` and ``H = sum_k H_k``; all Local.

    The consensus is ``argmin_v penalty(v) - s . (v - w) + rho / 2 (v - w)^T H (v - w)``.

    Parameters
    ----------
    objective : Objective
    w : (n_parameters,) array
        What the slopes are relative to.
    rho : float
    sums : array
        s and H, packed.
    """

    def __init__(self, objective: Objective, w: Vector, rho: float, sums: Vector) -> None:
        self._objective = objective
        self._w = w
        self._rho = rho
        self._sums = sums.copy()

    def add(self, difference: Vector) -> None:
        """Take in what changed in some subproblems: new terms less old ones."""
        self._sums += difference

    def minimum(self, near: Vector) -> Vector:
        """Return the consensus, in directions that no row knows the one next to `near`."""
        objective, d = self._objective, self._objective.data.n_features
        slope, hessian = unpacked(self._sums, near.size)
        gradient = self._rho * (hessian @ (near - self._w)) - slope
        gradient[:d] += objective.penalty.gradient(near[:d])
        curvature = self._rho * hessian
        diagonal = np.einsum("ii->i", curvature)
        diagonal += _SINGULAR * max(float(diagonal.mean()), 1e-300)
        diagonal[:d] += objective.penalty.l2
        model = Point(near, 0.0, gradient, curvature, np.zeros(0, np.int64))
        return minimise_model(objective, model, objective.all_columns)

    def square(self, move: Vector) -> float:
        """Return ``1/2 move^T H move``: what a move of the consensus changes of the mean loss, about."""
        _, hessian = unpacked(self._sums, move.size)
        return 0.5 * float(move @ hessian @ move)
