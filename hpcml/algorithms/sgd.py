"""Mini-batch stochastic gradient descent with reduced variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batch_gradient import batch_estimate, largest_curvature, prox_step
from hpcml.algorithms.batches import make_batches
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["SGD"]

_LEAST_RATE = 2.0**-20
_ROUNDING = 1e-13


class _State(NamedTuple):
    point: Point
    curvature: float
    rate: float
    epoch: int
    window: NDArray[np.int64]
    stuck: bool


@dataclass(frozen=True)
class SGD:
    """``w <- prox(w - t (g_B(w) - g_B(v) + g(v)))`` over the batches B of an epoch; v is where it began.

    g is the whole gradient, which the certificate needs anyway, and g_B that of a batch: their difference
    vanishes as w and v come together, so a constant step converges to the optimum, and linearly. An
    iteration is an epoch: a pass over the batches, whose rows are read once and computed with twice, and a
    pass for the whole gradient. With n batches n + 1 messages, each of ``d + 2`` sums. An epoch that did
    not go downhill is forgotten, and the step halved.

    Parameters
    ----------
    batch_rows : int, optional
        Rows of a batch over all ranks, about; by default a 64th of all, at least 32.
    learning_rate : float
        The step in units of ``1 / L`` with the largest curvature L.
    seed : int

    References
    ----------
    Johnson and Zhang, "Accelerating Stochastic Gradient Descent using Predictive Variance Reduction", NIPS
    2013; Xiao and Zhang 2014, doi:10.1137/140961791, for the proximal step.
    """

    state_type: ClassVar[Any] = _State
    batch_rows: int | None = None
    learning_rate: float = 1.0
    seed: int = 0
    name: str = "sgd"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages, and those of `largest_curvature`."""
        point = objective.evaluate(w)
        batches = make_batches(objective.data, self.batch_rows, self.seed)
        curvature = largest_curvature(objective, batches)
        flat = not point.gradient.any()
        return _State(point, curvature, self.learning_rate, 0, np.zeros(0, np.int64), flat)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the state an epoch later. Collective, a message a batch and one."""
        old = state.point
        w, window = self._epoch(objective, state)
        later = state._replace(epoch=state.epoch + 1, window=window)
        new = objective.evaluate(w, window=old.window)
        if new.is_finite and new.value <= old.value + _ROUNDING * abs(old.value):
            return later._replace(point=new, stuck=bool((w == old.w).all()))
        return later._replace(rate=state.rate / 2, stuck=state.rate < _LEAST_RATE * self.learning_rate)

    def _epoch(self, objective: Objective, state: _State) -> tuple[Vector, NDArray[np.int64]]:
        v, whole = state.point.w, state.point.gradient
        step, window = state.rate / state.curvature, state.window
        batches = make_batches(objective.data, self.batch_rows, self.seed)
        w = prox_step(objective, v, whole, step)  # at v a batch would add nothing
        for batch in batches.epoch(state.epoch):
            change, window = batch_estimate(objective, batch, batches.n, w, v, window)
            w = prox_step(objective, w, whole + change, step)
        return w, window
