"""Consensus ADMM: subproblems on runs of shards, one message a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.local_models import LocalFit, local_models
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.quadratic import minimise_model
from hpcml.algorithms.reduction import reduce_stream
from hpcml.algorithms.state import Sharded
from hpcml.data import Block, own_runs

__all__ = ["ADMM"]

_FIRST_RHO = 0.3
_TARGET = 10.0
"""Ratio of the relative residuals where fits were fastest, for shards alike and unlike."""
_BALANCED = 5.0
_FASTEST = 10.0
_ADAPTS = 50
"""Sweeps in which rho adapts: with a constant one from then on the method converges."""
_SINGULAR = 1e-8


class _State(NamedTuple):
    point: Point
    w: Vector
    metric: NDArray[np.float64]
    rho: float
    y: Sharded
    n_sweeps: int
    stuck: bool


class _Sweep(NamedTuple):
    """What a pass at w brings: the objective there, my fits, and sums over all subproblems.

    `pulled` are ``M_k (x_k - w)``, `squares` those of the moves and of the duals.
    """

    point: Point
    fits: list[LocalFit]
    pulled: Vector
    sum_y: Vector
    squares: Vector


@dataclass(frozen=True)
class ADMM:
    """Each subproblem k fits its own rows near the consensus w; w is then the penalised mean of the fits.

    ``x_k = argmin f_k(x) + y_k . x + rho / 2 ||x - w||_k^2``, by one Newton step from w,
    ``w' = argmin penalty(v) - sum_k (y_k + a rho M_k (x_k - w)) . v + rho / 2 ||v - w||^2`` and
    ``y_k' = y_k + rho M_k (a (x_k - w) - (w' - w))``, with the share f_k of a subproblem in the mean loss and
    the relaxation a. Newton's step starts at w, so its pass also gives the objective and the gradient there:
    a sweep is one pass and one message of 3 d + 8 sums.

    Norms are of the curvature: M_k is the Hessian of f_k at w, and that of w' the Hessian of the objective at
    the start. So rho has no unit, and a direction is led by the subproblems whose rows know of it, however
    unlike they are. rho follows the ratio of the relative residuals of x_k - w' and of w' - w for 50 sweeps.
    Subproblems are runs of shards: the answer does not depend on the number of ranks.

    Parameters
    ----------
    rho : float
        The first one.
    relaxation : float
        Between 0 and 2; 1 is none.
    adapts : bool
        Whether rho follows the residuals.

    References
    ----------
    Boyd, Parikh, Chu, Peleato and Eckstein, "Distributed Optimization and Statistical Learning via the
    Alternating Direction Method of Multipliers" (2011), sections 3.4 and 7.1, doi:10.1561/2200000016; Xu,
    Taylor, Li, Figueiredo, Yuan and Goldstein, "Adaptive Consensus ADMM for Distributed Optimization", ICML
    2017, for a rho of each subproblem; Wohlberg 2017, arXiv:1704.06209, for relative residuals.
    """

    state_type: ClassVar[Any] = _State
    rho: float = _FIRST_RHO
    relaxation: float = 1.6
    adapts: bool = True
    name: str = "admm"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two passes and four messages, one of them of the Hessian."""
        start = objective.evaluate(w, columns=objective.all_columns)
        metric = start.hessian + _ridge(start.hessian)
        y = Sharded(np.zeros((len(own_runs(objective.data)), w.size)))
        point = start._replace(hessian=np.zeros((0, 0)), window=np.zeros(0, np.int64))
        state = _State(point, w, metric, self.rho, y, 0, not start.is_finite)
        return state if state.stuck else self.step(objective, state)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one pass and one message as a rule."""
        y = state.y.own(own_runs(objective.data), objective.data.partition.n_runs)
        swept = self._swept(objective, state, y)
        if not swept.point.is_finite and state.n_sweeps:
            return state._replace(w=state.point.w, rho=100 * state.rho, y=Sharded(np.zeros_like(y)))
        rate = self.relaxation * state.rho
        w = _penalised(objective, state, swept.sum_y + rate * swept.pulled)
        change = w - state.w
        pairs = zip(y, swept.fits, strict=True)
        duals = [dual + rate * fit.pull - state.rho * (fit.metric @ change) for dual, fit in pairs]
        return _State(
            swept.point,
            w,
            state.metric,
            self._next_rho(state, swept, w),
            Sharded(np.reshape(duals, y.shape)),
            state.n_sweeps + 1,
            not change.any() and not swept.pulled.any(),
        )

    def _swept(self, objective: Objective, state: _State, y: NDArray[np.float64]) -> _Sweep:
        """Fit my subproblems at the consensus. Collective, one pass and one message."""
        d, p = objective.data.n_features, state.w.size
        n_runs = objective.data.partition.n_runs
        ridge = _ridge(state.metric) / n_runs
        fits: list[LocalFit] = []

        def terms(blocks: Iterator[Block]) -> Iterator[NDArray[np.float64]]:
            fits.clear()
            for dual, model in zip(y, local_models(objective, state.w, blocks), strict=True):
                fit = model.fit(dual, state.rho, ridge)
                fits.append(fit)
                squares = [fit.square_move, fit.square_y]
                yield np.concatenate([model.sums[: 2 + d], fit.pull, dual, squares])[None]

        window = state.point.window if state.point.window.size else None
        reduced = reduce_stream(objective.data, terms, d + 2 * p + 4, window=window, ballot=objective.ballot)
        sums, rest = reduced.total[: 2 + d], reduced.total[2 + d :]
        point = objective.penalised(state.w, objective.mean_loss(sums, None), None, reduced.window)
        return _Sweep(point, fits, rest[:p], rest[p : 2 * p], rest[2 * p :])

    def _next_rho(self, state: _State, swept: _Sweep, w: Vector) -> float:
        """Return rho, nearer to where both relative residuals are alike."""
        if not self.adapts or not 0 < state.n_sweeps < _ADAPTS:
            return state.rho
        change = w - state.w
        step = float(change @ state.metric @ change)
        square_move, square_y = swept.squares.tolist()
        apart = square_move - 2 * float(change @ swept.pulled) + step
        primal = max(apart, 0.0) / max(float(w @ state.metric @ w), 1e-300)
        dual = state.rho**2 * step / max(square_y, 1e-300)
        ratio = np.sqrt(primal / dual) / _TARGET if dual > 0 else 1.0
        if 1 / _BALANCED <= ratio <= _BALANCED or ratio == 0.0:
            return state.rho
        return state.rho * float(np.clip(np.sqrt(ratio), 1 / _FASTEST, _FASTEST))


def _ridge(H: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a little of the identity, for directions that no row knows."""
    return _SINGULAR * max(float(np.trace(H)) / len(H), 1e-300) * np.eye(len(H))


def _penalised(objective: Objective, state: _State, pull: Vector) -> Vector:
    """Return ``argmin_v penalty(v) - pull . v + rho / 2 (v - w)^T A (v - w)`` for the consensus w."""
    d, penalty = objective.data.n_features, objective.penalty
    gradient, hessian = -pull, state.rho * state.metric
    gradient[:d] += penalty.gradient(state.w[:d])
    hessian[np.arange(d), np.arange(d)] += penalty.l2
    model = Point(state.w, 0.0, gradient, hessian, np.zeros(0, np.int64))
    return minimise_model(objective, model, objective.all_columns)
