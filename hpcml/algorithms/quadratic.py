"""The minimum of a quadratic with l1 strengths and bounds, found on every process alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.sweeps import swept
from hpcml.algorithms.objective import Objective, Point
from hpcml.algorithms.penalties import Penalty

__all__ = ["minimise_model"]

Vector = NDArray[np.float64]

_SWEEPS = 500
_ENOUGH = 1e-13
"""Largest subgradient, relative to the first one, at which sweeps end; or it is rounding."""
_ROUNDING = 1e-15


def minimise_model(objective: Objective, point: Point, columns: NDArray[np.int64]) -> Vector:
    """Return w with those weights, and the intercept, that minimise the model of the objective at a point.

    Local. The model has the point's gradient and Hessian, and the penalty's rough part. Sweeps of coordinate
    descent find which weights are zero or at a bound, a solve with the rest of the Hessian then ends at the
    minimum (Friedman, Hastie and Tibshirani 2010, doi:10.18637/jss.v033.i01; Nocedal and Wright, "Numerical
    Optimization", 2006, section 16.7).
    """
    free = np.arange(objective.n_weights, objective.n_parameters)
    picked = np.concatenate([columns, free])
    w = point.w.copy()
    w[picked] = _minimised(
        point.hessian, _picked(objective.whole_penalty, picked), w[picked], point.gradient[picked]
    )
    return w


def _picked(penalty: Penalty, at: NDArray[np.int64]) -> Penalty:
    """Return the rough part of some weights; the Hessian has the smooth one."""
    return Penalty(np.zeros(at.size), penalty.l1[at], penalty.lower[at], penalty.upper[at])


def _minimised(H: Vector, rough: Penalty, v: Vector, slope: Vector) -> Vector:
    first = np.abs(rough.residual(v, slope)).max(initial=0.0)
    size, pull = np.abs(H), np.abs(slope)
    for _ in range(_SWEEPS):
        v, slope = swept(H, rough.l1, rough.lower, rough.upper, v, slope)
        v, slope = _solved_where_free(H, rough, v, slope)
        rounding = _ROUNDING * (size @ np.abs(v) + pull).max(initial=0.0)
        if np.abs(rough.residual(v, slope)).max(initial=0.0) <= max(_ENOUGH * first, rounding):
            break
    return v


def _solved_where_free(H: Vector, rough: Penalty, v: Vector, slope: Vector) -> tuple[Vector, Vector]:
    """Move the weights that are neither zero nor at a bound towards their minimum, until one is."""
    free = (v > rough.lower) & (v < rough.upper) & ((v != 0) | (rough.l1 == 0)) & (np.diag(H) > 0)
    if not free.any():
        return v, slope
    signed = slope[free] + rough.l1[free] * np.sign(v[free])
    try:
        np.linalg.cholesky(H[np.ix_(free, free)])
        step = -np.linalg.solve(H[np.ix_(free, free)], signed)
    except np.linalg.LinAlgError:
        return v, slope
    t = _longest(rough, v, free, step)
    move = np.zeros_like(v)
    move[free] = t * step
    there = np.clip(v + move, rough.lower, rough.upper)
    crossed = (np.sign(there) != np.sign(v)) & (rough.l1 > 0)
    there[crossed] = 0.0
    return there, slope + H @ (there - v)


def _longest(rough: Penalty, v: Vector, free: NDArray[np.bool_], step: Vector) -> float:
    """Return the share of a step, at most 1, after which the first weight is zero or at a bound."""
    here, l1 = v[free], rough.l1[free]
    with np.errstate(divide="ignore", invalid="ignore"):
        to_zero = np.where((l1 > 0) & (here * step < 0), -here / step, np.inf)
        bound = np.where(step > 0, rough.upper[free], rough.lower[free])
        to_bound = np.where(step != 0, (bound - here) / step, np.inf)
    return float(min(1.0, to_zero.min(initial=np.inf), to_bound.min(initial=np.inf)))
