"""The minimum of a quadratic with l1 strengths and bounds, found on every process alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Objective, Point

__all__ = ["minimise_model"]

Vector = NDArray[np.float64]

_SWEEPS = 500
_ENOUGH = 1e-13
"""Largest subgradient, relative to the first one, at which a sweep ends."""


class _Model(NamedTuple):
    """``g . (v - w) + 1/2 (v - w)^T H (v - w) + sum_j l1_j |v_j|`` with bounds on v."""

    H: NDArray[np.float64]
    l1: Vector
    lower: Vector
    upper: Vector

    def residual(self, v: Vector, slope: Vector) -> Vector:
        """Return the smallest subgradient at v, where the smooth part has this slope."""
        least = np.where(v <= self.lower, -np.inf, np.where(v > 0, self.l1, -self.l1))
        most = np.where(v >= self.upper, np.inf, np.where(v < 0, -self.l1, self.l1))
        return slope + np.clip(-slope, least, most)


def minimise_model(objective: Objective, point: Point, columns: NDArray[np.int64]) -> Vector:
    """Return w with those weights, and the intercept, that minimise the model of the objective at a point.

    Local. The model has the point's gradient and Hessian, and the penalty's rough part. Sweeps of coordinate
    descent find which weights are zero or at a bound, a solve with the rest of the Hessian then ends at the
    minimum (Friedman, Hastie and Tibshirani 2010, doi:10.18637/jss.v033.i01; Nocedal and Wright, "Numerical
    Optimization", 2006, section 16.7).
    """
    d, penalty = objective.data.n_features, objective.penalty
    picked = np.append(columns, d) if objective.fit_intercept else columns
    extra = int(objective.fit_intercept)
    model = _Model(
        point.hessian,
        np.append(penalty.l1[columns], np.zeros(extra)),
        np.append(penalty.lower[columns], np.full(extra, -np.inf)),
        np.append(penalty.upper[columns], np.full(extra, np.inf)),
    )
    w = point.w.copy()
    w[picked] = _minimised(model, w[picked], point.gradient[picked])
    return w


def _minimised(model: _Model, v: Vector, slope: Vector) -> Vector:
    first = np.abs(model.residual(v, slope)).max(initial=0.0)
    for _ in range(_SWEEPS):
        v, slope = _swept(model, v, slope)
        v, slope = _solved_where_free(model, v, slope)
        if np.abs(model.residual(v, slope)).max(initial=0.0) <= _ENOUGH * first:
            break
    return v


def _swept(model: _Model, v: Vector, slope: Vector) -> tuple[Vector, Vector]:
    """Minimise over one weight after another."""
    v, slope = v.copy(), slope.copy()
    curvatures = np.diag(model.H).tolist()
    for j, curvature in enumerate(curvatures):
        old = v[j]
        new = _coordinate(model, j, old, slope[j], curvature)
        if new != old:
            v[j] = new
            slope += (new - old) * model.H[j]
    return v, slope


def _coordinate(model: _Model, j: int, old: float, slope: float, curvature: float) -> float:
    l1 = model.l1[j]
    if curvature <= 0.0:  # a column without spread: only the penalty speaks
        return 0.0 if l1 > 0 else old
    far = old - slope / curvature
    shrunk = np.sign(far) * max(abs(far) - l1 / curvature, 0.0)
    return float(min(max(shrunk, model.lower[j]), model.upper[j]))


def _solved_where_free(model: _Model, v: Vector, slope: Vector) -> tuple[Vector, Vector]:
    """Move the weights that are neither zero nor at a bound towards their minimum, until one is."""
    free = (v > model.lower) & (v < model.upper) & ((v != 0) | (model.l1 == 0)) & (np.diag(model.H) > 0)
    if not free.any():
        return v, slope
    signed = slope[free] + model.l1[free] * np.sign(v[free])
    try:
        np.linalg.cholesky(model.H[np.ix_(free, free)])
        step = -np.linalg.solve(model.H[np.ix_(free, free)], signed)
    except np.linalg.LinAlgError:
        return v, slope
    t = _longest(model, v, free, step)
    move = np.zeros_like(v)
    move[free] = t * step
    there = np.clip(v + move, model.lower, model.upper)
    crossed = (np.sign(there) != np.sign(v)) & (model.l1 > 0)
    there[crossed] = 0.0
    return there, slope + model.H @ (there - v)


def _longest(model: _Model, v: Vector, free: NDArray[np.bool_], step: Vector) -> float:
    """Return the share of a step, at most 1, after which the first weight is zero or at a bound."""
    here, l1 = v[free], model.l1[free]
    with np.errstate(divide="ignore", invalid="ignore"):
        to_zero = np.where((l1 > 0) & (here * step < 0), -here / step, np.inf)
        bound = np.where(step > 0, model.upper[free], model.lower[free])
        to_bound = np.where(step != 0, (bound - here) / step, np.inf)
    return float(min(1.0, to_zero.min(initial=np.inf), to_bound.min(initial=np.inf)))
