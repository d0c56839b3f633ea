"""Accelerated gradient descent with adaptive restart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.penalties import make_penalty

__all__ = ["Nesterov"]


class _State(NamedTuple):
    point: Point
    w: Vector
    momentum: float
    step: float
    stuck: bool


@dataclass(frozen=True)
class Nesterov:
    """``v' = prox(x - g(x) / L)``, ``x' = v' + beta (v' - v)``: gradients are taken at x alone.

    With a penalty that has a rough part this is FISTA. L grows when two gradients show more curvature:
    ``f(x) >= f(x') + g' . (x - x') + ||g - g'||^2 / (2 L)`` is what an L-smooth convex function keeps.
    Momentum restarts where it points uphill. One message an iteration. A weight that is zero in v and v' is
    zero in x'.

    References
    ----------
    Nesterov, "Introductory Lectures on Convex Optimization" (2004), theorem 2.1.5 and section 2.2;
    Beck and Teboulle 2009, doi:10.1137/080716542; O'Donoghue and Candès 2015, doi:10.1007/s10208-013-9150-3.
    """

    state_type: ClassVar[Any] = _State
    name: str = "nesterov"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w, its step from a line search. Collective, three messages, or six."""
        smooth = replace(objective, penalty=make_penalty(objective.n_weights, objective.penalty.l2))
        point = smooth.evaluate(w)
        norm = float(np.linalg.norm(point.gradient))
        _, step = search(smooth, point, -point.gradient, 1.0 / max(norm, 1e-300))
        whole = point._replace(value=point.value + _rough(objective, w))
        return _State(whole, w, 1.0, step, step == 0.0)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message."""
        x, bounds = state.point, objective.whole_penalty
        w = objective.whole_penalty.prox(x.w - state.step * x.gradient, state.step)
        uphill = float((x.w - w) @ (w - state.w)) > 0
        before = 1.0 if uphill else state.momentum
        momentum = 0.5 * (1 + np.sqrt(1 + 4 * before * before))
        beta = 0.0 if uphill else (before - 1) / momentum
        ahead = np.clip(w + beta * (w - state.w), bounds.lower, bounds.upper)
        new = objective.evaluate(ahead, window=x.window)
        if new.is_finite and _is_smooth(objective, x, new, state.step):
            return _State(new, w, float(momentum), state.step, bool((new.w == x.w).all()))
        return _State(x, x.w, 1.0, state.step / 2, state.step < 1e-300)


def _rough(objective: Objective, w: Vector) -> float:
    return objective.penalty.rough_value(objective.split(w)[0])


def _is_smooth(objective: Objective, old: Point, new: Point, step: float) -> bool:
    """Whether 1 / step bounds the smooth part's curvature between two points, as far as rounding shows."""
    rough = _rough(objective, old.w) - _rough(objective, new.w)
    bend = old.value - new.value - rough - float(new.gradient @ (old.w - new.w))
    change = old.gradient - new.gradient
    rounding = 1e-12 * max(abs(old.value), abs(new.value))
    return 0.5 * step * float(change @ change) <= bend + rounding
