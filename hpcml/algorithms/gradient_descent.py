"""Gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.step_rules import Armijo, BarzilaiBorwein, Constant, InverseCurvature, StepRule

__all__ = ["GradientDescent", "make_gradient_descent"]

_RULES: dict[str, StepRule] = {
    "auto": BarzilaiBorwein(),
    "bb": BarzilaiBorwein(),
    "armijo": Armijo(),
    "constant": InverseCurvature(),
}


class _State(NamedTuple):
    point: Point
    guess: float
    values: Vector
    stuck: bool


@dataclass(frozen=True)
class GradientDescent:
    """``w <- w - t g``, with t by a rule. One message an iteration as a rule."""

    state_type: ClassVar[Any] = _State
    name: str = "gd"
    rule: StepRule = field(default_factory=BarzilaiBorwein)

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages, and what the rule's first step takes."""
        point = objective.evaluate(w)
        is_flat = not point.gradient.any()
        guess = 1.0 if is_flat or not point.is_finite else self.rule.first(objective, point)
        return _State(point, guess, np.full(self.rule.memory, point.value), is_flat)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule."""
        point = state.point
        new, t = self.rule.moved(objective, point, state.guess, state.values)
        if t == 0.0:
            return state._replace(stuck=True)
        following = self.rule.following(point, new, t)
        return _State(new, following, np.array([*state.values[1:].tolist(), new.value]), False)


def make_gradient_descent(step: float | str = "auto") -> GradientDescent:
    """Return gradient descent with the rule of this name, or with a constant step. Local.

    Parameters
    ----------
    step : {"auto", "bb", "armijo", "constant"} or float
        auto is bb; constant is 1 over a bound on the curvature.
    """
    return GradientDescent(rule=_RULES[step] if isinstance(step, str) else Constant(step))
