"""Gradient descent with Barzilai and Borwein's steps under a line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["GradientDescent"]


class _State(NamedTuple):
    point: Point
    guess: float
    values: Vector
    stuck: bool


@dataclass(frozen=True)
class GradientDescent:
    """``w <- w - t g`` with ``t = (s . s) / (s . y)`` from the last move s and its change y of gradient.

    The step must improve on the largest of the last 10 values, else a line search on cached margins
    finds one. One message an iteration where the step is accepted.

    References
    ----------
    Barzilai and Borwein 1988, doi:10.1093/imanum/8.1.141; Raydan 1997, doi:10.1137/S1052623494266365.
    """

    state_type: ClassVar[Any] = _State
    name: str = "gd"
    memory: int = 10

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        point = objective.evaluate(w)
        norm = float(np.linalg.norm(point.gradient))
        return _State(point, 1.0 / max(norm, 1e-300), np.full(self.memory, point.value), norm == 0.0)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule."""
        point = state.point
        reference = float(state.values.max())
        new, t = search(objective, point, -point.gradient, state.guess, reference=reference)
        if t == 0.0:
            return state._replace(stuck=True)
        s, y = new.w - point.w, new.gradient - point.gradient
        curvature = float(s @ y)
        guess = float(s @ s) / curvature if curvature > 0 else 2 * t
        return _State(new, guess, np.append(state.values[1:], new.value), False)
