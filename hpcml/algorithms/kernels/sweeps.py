"""Coordinate descent on a quadratic: one sweep over its weights. All Local."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.choice import chosen, compiled

__all__ = ["swept"]

Vector = NDArray[np.float64]


def swept(
    H: NDArray[np.float64], l1: Vector, lower: Vector, upper: Vector, v: Vector, slope: Vector
) -> tuple[Vector, Vector]:
    """Return weights and slopes after minimising over one weight after another, each (n,).

    Of ``slope . m + 1/2 m^T H m + sum_j l1_j |v_j + m_j|`` within the bounds, from m = 0: a weight becomes
    ``v_j - slope_j / H_jj``, shrunk towards zero by ``l1_j / H_jj`` and clipped, and its move is added to the
    slopes. Compiled and in NumPy it gives the same bits.

    Parameters
    ----------
    H : (n, n) array
    l1, lower, upper : (n,) array
    v, slope : (n,) array
        Not changed.
    """
    v, slope = v.copy(), slope.copy()
    if chosen() == "numpy":
        _sweep(H, l1, lower, upper, v, slope)
    else:
        module: Any = compiled()
        module.sweep(chosen(), np.ascontiguousarray(H), (l1, lower, upper), v, slope)
    return v, slope


def _sweep(
    H: NDArray[np.float64], l1: Vector, lower: Vector, upper: Vector, v: Vector, slope: Vector
) -> None:
    for j, curvature in enumerate(np.diag(H).tolist()):
        old = v[j]
        if curvature <= 0.0:  # a column without spread: only the penalty speaks
            new = 0.0 if l1[j] > 0 else old
        else:
            far = old - slope[j] / curvature
            shrunk = np.copysign(max(abs(far) - l1[j] / curvature, 0.0), far)
            new = min(max(shrunk, lower[j]), upper[j])
        if new != old:
            v[j] = new
            slope += (new - old) * H[j]
