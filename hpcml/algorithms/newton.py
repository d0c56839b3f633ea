"""Newton's method with the whole Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["NewtonCholesky"]


_NO_HESSIAN = np.zeros((0, 0))
_ENOUGH = 0.1
"""Share of the gradient that a step may leave and its Hessian still be good."""


class _State(NamedTuple):
    point: Point
    hessian: Vector
    is_fresh: bool
    share: float
    stuck: bool


@dataclass(frozen=True)
class NewtonCholesky:
    """``w <- w - t H^-1 g``; value, gradient and Hessian of the next point travel in one message.

    H stays as long as a step with it leaves at most a tenth of the gradient: a pass with the Hessian costs
    several without, and near the optimum it hardly changes. So the last points, and the first ones after a
    start on samples, take passes with the gradient alone.

    The message has ``(d + 1)(d + 2) / 2 + d + 2`` sums, so d is best at most a few thousand. Where H is
    singular the shortest step that solves the equations is taken, which leads from zero to the weights of
    least norm.

    References
    ----------
    Boyd and Vandenberghe, "Convex Optimization" (2004), section 9.5; Kelley, "Iterative Methods for Linear
    and Nonlinear Equations" (1995), section 5.4 on steps with an older derivative.
    """

    state_type: ClassVar[Any] = _State
    name: str = "newton"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        return _fresh(objective.evaluate(w, columns=objective.all_columns), 1.0)

    def grown(self, objective: Objective, w: Vector, last: _State) -> _State:
        """Return the state at w, with the Hessian of fewer rows. Collective, two messages."""
        point = objective.evaluate(w)
        return _State(point, last.hessian, False, 0.0, not point.gradient.any())

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule."""
        point = state.point
        direction = -_solved(state.hessian, point.gradient, objective.scaling.scale)
        columns = None if state.share <= _ENOUGH else objective.all_columns
        new, t = search(objective, point, direction, 1.0, columns=columns)
        if t == 0.0 and not state.is_fresh:
            return self.init(objective, point.w)
        if t == 0.0:
            return state._replace(stuck=True)
        share = float(np.abs(new.gradient).max() / np.abs(point.gradient).max())
        if columns is None:
            return state._replace(point=new, is_fresh=False, share=share)
        return _fresh(new, share)


def _fresh(point: Point, share: float) -> _State:
    """Return the state at a point with its own Hessian."""
    bare = point._replace(hessian=_NO_HESSIAN)
    return _State(bare, point.hessian, True, share, not point.gradient.any())


def _solved(H: Vector, g: Vector, scale: Vector) -> Vector:
    """Return H^-1 g, or where H is singular the solution with the shortest coefficients."""
    try:
        np.linalg.cholesky(H - 1e-13 * np.diag(np.diag(H)))
        return np.asarray(np.linalg.solve(H, g), np.float64)
    except np.linalg.LinAlgError:
        return _shortest(H, g, scale)


def _shortest(H: Vector, g: Vector, scale: Vector) -> Vector:
    """Solve ``H x = g`` with the least ``||w / scale||``; the intercept, eliminated first, may be any."""
    d = scale.size
    if g.size == d:
        return _least_norm(H, g, scale)
    if H[d, d] == 0.0:  # no row bends the loss: the penalty alone says where to go
        return np.append(_least_norm(H[:d, :d], g[:d], scale), 0.0)
    cross = H[:d, d] / H[d, d]
    w = _least_norm(H[:d, :d] - np.outer(cross, H[:d, d]), g[:d] - cross * g[d], scale)
    return np.append(w, g[d] / H[d, d] - cross @ w)


def _least_norm(H: Vector, g: Vector, scale: Vector) -> Vector:
    values, vectors = np.linalg.eigh(H)
    kept = values > 1e-12 * max(float(values[-1]), 0.0)
    x = vectors[:, kept] @ ((vectors[:, kept].T @ g) / values[kept])
    free = vectors[:, ~kept]
    if free.shape[1]:
        x = x - free @ np.linalg.lstsq(free / scale[:, None], x / scale, rcond=None)[0]
    return np.asarray(x, np.float64)
