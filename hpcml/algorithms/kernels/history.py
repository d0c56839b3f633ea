"""What the history of L-BFGS stands for. All Local."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.choice import chosen, compiled

__all__ = ["inverse_product"]

Vector = NDArray[np.float64]


def inverse_product(moves: Vector, changes: Vector, gradient: Vector) -> Vector:
    """Return H g for the inverse Hessian H that moves s and changes y of the gradient stand for, (n,).

    With the compiled kernels the bits depend on no instruction set.

    Parameters
    ----------
    moves, changes : (m, n) array
        The oldest first, each with ``s . y > 0``; for m = 0 H is 1.
    gradient : (n,) array
        Not changed.
    """
    if not len(moves):
        return gradient.copy()
    if chosen() == "numpy":
        return _inverse_product(moves, changes, gradient)
    module: Any = compiled()
    product = gradient.copy()
    module.inverse_product(chosen(), moves, changes, np.empty(len(moves)), product)
    return product


def _inverse_product(S: Vector, Y: Vector, gradient: Vector) -> Vector:
    """Return H g by products of matrices.

    With R the upper triangle of ``S Y^T``, the loops of the recursion solve ``R a = S g`` and
    ``R^T c = diag(R) a - t Y q`` for ``q = g - Y^T a`` and the scale t of the last move, and H g is
    ``t q + S^T c``.
    """
    R = np.triu(S @ Y.T)
    first = np.linalg.solve(R, S @ gradient)
    q = gradient - first @ Y
    scale = R[-1, -1] / (Y[-1] @ Y[-1])
    second = np.linalg.solve(R.T, R.diagonal() * first - scale * (Y @ q))
    return np.asarray(scale * q + second @ S)
