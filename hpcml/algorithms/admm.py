"""Consensus ADMM: subproblems on runs of shards, one message a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.local_models import local_models
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.reduction import reduce_stream
from hpcml.algorithms.state import Sharded
from hpcml.data import Block, own_runs

__all__ = ["ADMM"]

_FIRST_RHO = 0.1
"""Share of a subproblem's largest curvature at which rho starts."""
_BALANCED = 5.0
_FASTEST = 10.0
_ADAPTS = 50
"""Sweeps in which rho adapts: with a constant one from then on the method converges."""


class _State(NamedTuple):
    point: Point
    w: Vector
    rho: float
    u: Sharded
    sum_u: Vector
    n_sweeps: int
    stuck: bool


class _Sweep(NamedTuple):
    """What a pass at w brings: the objective there, my moves, and sums over all subproblems.

    With x_k the fits and a the relaxation, `moved` are ``a (x_k - w)`` of my subproblems; the sums are those
    of ``x_k - w``, of its square and of the square of u_k.
    """

    point: Point
    moved: NDArray[np.float64]
    sum_move: Vector
    square_move: float
    square_u: float


@dataclass(frozen=True)
class ADMM:
    """Each subproblem k fits its own rows near the consensus w; w is then the penalised mean of the fits.

    ``x_k = argmin f_k(x) + rho / 2 ||x - w + u_k||^2``, by one Newton step from w,
    ``w' = argmin penalty(w) + K rho / 2 ||w - mean(a x_k + (1 - a) w + u_k)||^2`` and
    ``u_k' = u_k + a x_k + (1 - a) w - w'``, with the share f_k of a subproblem in the mean loss and the
    relaxation a. Newton's step starts at w, so its pass also gives the objective and the gradient there: a
    sweep is one pass and one message of 2 d + 6 sums.

    rho starts at a share of a subproblem's curvature and follows the ratio of the relative residuals,
    ``||x_k - w'|| / ||w'||`` and ``||w' - w|| / ||u_k||``, for 50 sweeps. Subproblems are runs of shards, so
    the answer does not depend on the number of ranks.

    Parameters
    ----------
    rho : float or None
        The first one, on the mean loss of scaled features; None follows from the curvature.
    relaxation : float
        Between 0 and 2; 1 is none.
    adapts : bool
        Whether rho follows the residuals.

    References
    ----------
    Boyd, Parikh, Chu, Peleato and Eckstein, "Distributed Optimization and Statistical Learning via the
    Alternating Direction Method of Multipliers" (2011), sections 3.4 and 7.1, doi:10.1561/2200000016;
    Wohlberg, "ADMM Penalty Parameter Selection by Residual Balancing" (2017), arXiv:1704.06209.
    """

    state_type: ClassVar[Any] = _State
    rho: float | None = None
    relaxation: float = 1.6
    adapts: bool = True
    name: str = "admm"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        n_runs = objective.data.partition.n_runs
        rho = self.rho or _FIRST_RHO * objective.start.curvature / n_runs
        u = Sharded(np.zeros((len(own_runs(objective.data)), w.size)))
        blank = Point(w, 0.0, np.zeros_like(w), np.zeros((0, 0)), np.zeros(0, np.int64))
        return self.step(objective, _State(blank, w, rho, u, np.zeros_like(w), 0, False))

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one pass and one message as a rule."""
        u = state.u.own(own_runs(objective.data), objective.data.partition.n_runs)
        swept = self._swept(objective, state, u)
        if not swept.point.is_finite and state.n_sweeps:
            return _damped(state, u)
        n = objective.data.partition.n_runs
        shift = (self.relaxation * swept.sum_move + state.sum_u) / n
        w = _penalised_mean(objective, state.w + shift, n * state.rho)
        change = w - state.w
        next_u = u + swept.moved - change
        rho = self._next_rho(state, swept, w, change, n)
        scale = state.rho / rho
        return _State(
            swept.point,
            w,
            rho,
            Sharded(next_u * scale),
            n * (shift - change) * scale,
            state.n_sweeps + 1,
            not change.any() and not swept.sum_move.any(),
        )

    def _swept(self, objective: Objective, state: _State, u: NDArray[np.float64]) -> _Sweep:
        """Fit my subproblems at the consensus. Collective, one pass and one message."""
        d, p = objective.data.n_features, state.w.size
        moved = np.zeros_like(u)

        def terms(blocks: Iterator[Block]) -> Iterator[NDArray[np.float64]]:
            for k, model in enumerate(local_models(objective, state.w, blocks)):
                move = model.move_near(u[k], state.rho)
                moved[k] = self.relaxation * move
                yield np.concatenate([model.sums, move, [move @ move, u[k] @ u[k]]])[None]

        window = state.point.window if state.point.window.size else None
        reduced = reduce_stream(objective.data, terms, d + p + 4, window=window, ballot=objective.ballot)
        sums, rest = reduced.total[: 2 + d], reduced.total[2 + d :]
        point = objective.penalised(state.w, objective.mean_loss(sums, None), None, reduced.window)
        return _Sweep(point, moved, rest[:p], float(rest[p]), float(rest[p + 1]))

    def _next_rho(self, state: _State, swept: _Sweep, w: Vector, change: Vector, n: int) -> float:
        """Return rho, nearer to where both relative residuals are alike."""
        if not self.adapts or state.n_sweeps >= _ADAPTS:
            return state.rho
        apart = swept.square_move - 2 * float(change @ swept.sum_move) + n * float(change @ change)
        primal = np.sqrt(max(apart, 0.0) / max(n * float(w @ w), 1e-300))
        dual = np.sqrt(n * float(change @ change) / max(swept.square_u, 1e-300))
        if state.n_sweeps == 0 or not (primal > 0 and dual > 0):
            return state.rho
        ratio = float(primal / dual)
        if 1 / _BALANCED <= ratio <= _BALANCED:
            return state.rho
        return state.rho * float(np.clip(np.sqrt(ratio), 1 / _FASTEST, _FASTEST))


def _penalised_mean(objective: Objective, mean: Vector, strength: float) -> Vector:
    """Return ``argmin_w penalty(w) + strength / 2 ||w - mean||^2``; the intercept has no penalty."""
    d, penalty = objective.data.n_features, objective.penalty
    shrunk = np.sign(mean[:d]) * np.maximum(np.abs(mean[:d]) - penalty.l1 / strength, 0.0)
    weights = shrunk * (strength / (strength + penalty.l2))
    return np.append(np.clip(weights, penalty.lower, penalty.upper), mean[d:])


def _damped(state: _State, u: NDArray[np.float64]) -> _State:
    """Return to the last finite point, with a rho that keeps fits nearer."""
    nothing = np.zeros_like(state.w)
    return state._replace(w=state.point.w, rho=100 * state.rho, u=Sharded(np.zeros_like(u)), sum_u=nothing)
