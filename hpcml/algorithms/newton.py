"""Newton's method with the whole Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["NewtonCholesky"]


class _State(NamedTuple):
    point: Point
    stuck: bool


@dataclass(frozen=True)
class NewtonCholesky:
    """``w <- w - t H^-1 g``; value, gradient and Hessian of the next point travel in one message.

    The message has ``(d + 1)(d + 2) / 2 + d + 2`` sums, so d is best at most a few thousand. Where H is
    singular the shortest step that solves the equations is taken, which leads from zero to the weights of
    least norm.

    References
    ----------
    Boyd and Vandenberghe, "Convex Optimization" (2004), section 9.5.
    """

    state_type: ClassVar[Any] = _State
    name: str = "newton"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        point = objective.evaluate(w, columns=objective.all_columns)
        return _State(point, not point.gradient.any())

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule."""
        point = state.point
        direction = -_solved(point.hessian, point.gradient, objective.scaling.scale)
        new, t = search(objective, point, direction, 1.0, columns=objective.all_columns)
        return _State(new, t == 0.0)


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
