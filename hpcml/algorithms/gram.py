"""Least squares from the Gram matrix: one pass, then nothing but algebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.quadratic import minimise_model

__all__ = ["Gram"]


class _State(NamedTuple):
    point: Point
    stuck: bool


@dataclass(frozen=True)
class Gram:
    """One pass gives ``X^T X`` and ``X^T y``; the minimum with any separable penalty then follows locally.

    A loss whose curvature is constant is its own quadratic model, so one step reaches the minimum but for
    rounding, and a second one removes what rounding left. The message has ``(d + 1)(d + 2) / 2 + d + 2``
    sums.

    References
    ----------
    Friedman, Hastie and Tibshirani 2010, doi:10.18637/jss.v033.i01, section 2.2 ("covariance updates").
    """

    state_type: ClassVar[Any] = _State
    name: str = "gram"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        return _State(objective.evaluate(w, columns=objective.all_columns), False)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message."""
        point = state.point
        w = minimise_model(objective, point, objective.all_columns)
        if (w == point.w).all():
            return state._replace(stuck=True)
        new = objective.evaluate(w, window=point.window)
        if not new.value < point.value and not abs(new.gradient).max() < abs(point.gradient).max():
            return state._replace(stuck=True)
        return _State(new._replace(hessian=point.hessian), False)
