"""Mini-batch stochastic gradient descent with averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batch_gradient import batch_gradient, largest_curvature, prox_step
from hpcml.algorithms.batches import make_batches
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["AveragedSGD", "Walk"]


class Walk(NamedTuple):
    """Where the iterates stand, the same on every rank.

    Attributes
    ----------
    w, average : (n_parameters,) array
    n_steps : int
    curvature : float
        L.
    epoch : int
    window : array of int64
        Of the last reduction.
    """

    w: Vector
    average: Vector
    n_steps: int
    curvature: float
    epoch: int
    window: NDArray[np.int64]


class _State(NamedTuple):
    point: Point
    walk: Walk
    stuck: bool


@dataclass(frozen=True)
class AveragedSGD:
    """``w <- prox(w - t_k g_B(w))`` over the batches B, with ``t_k = rate / (L sqrt(1 + k / n))`` at step k.

    The answer is the average of the iterates in which w_k has a weight proportional to k + 1. An iteration
    is an epoch of n batches: a pass over them, and one at the average, for its certificate; n + 1 messages,
    each of ``d + 2`` sums. The error falls as the square root of the number of steps at least: a tolerance
    of 1e-2 or 1e-3 is met soon, one of 1e-6 seldom, and then the result says so.

    Parameters
    ----------
    batch_rows, learning_rate, seed
        As of `SGD`.

    References
    ----------
    Polyak and Juditsky 1992, doi:10.1137/0330046; Lacoste-Julien, Schmidt and Bach 2012, arXiv:1212.2002, for
    the weights; Bach and Moulines 2011, NIPS, for steps that fall slowly.
    """

    state_type: ClassVar[Any] = _State
    batch_rows: int | None = None
    learning_rate: float = 1.0
    seed: int = 0
    name: str = "sgd"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages, and those of `start`."""
        point = objective.evaluate(w)
        return _State(point, self.start(objective, w), not point.gradient.any())

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the state an epoch later. Collective, a message a batch and one."""
        walk = self.walked(objective, state.walk)
        return _State(objective.evaluate(walk.average, window=state.point.window), walk, False)

    def start(self, objective: Objective, w: Vector) -> Walk:
        """Return a walk that has not begun. Collective, the messages of `largest_curvature`."""
        batches = make_batches(objective.data, self.batch_rows, self.seed)
        curvature = largest_curvature(objective, batches)
        return Walk(w, w, 0, curvature, 0, np.zeros(0, np.int64))

    def walked(self, objective: Objective, walk: Walk) -> Walk:
        """Return the walk after an epoch. Collective, a message a batch."""
        batches = make_batches(objective.data, self.batch_rows, self.seed)
        w, average, k, window = walk.w, walk.average, walk.n_steps, walk.window
        for batch in batches.epoch(walk.epoch):
            gradient, window = batch_gradient(objective, batch, batches.n, w, window)
            step = self.learning_rate / (walk.curvature * np.sqrt(1.0 + k / batches.n))
            w = prox_step(objective, w, gradient, float(step))
            average = average + 2.0 / (k + 2.0) * (w - average)
            k += 1
        return Walk(w, average, k, walk.curvature, walk.epoch + 1, window)
