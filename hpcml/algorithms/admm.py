"""Consensus ADMM: all subproblems in step, one message a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.running_sums import RunningSums
from hpcml.algorithms.workshop import make_term

__all__ = ["ADMM"]

_ADAPTS = 50
"""Sweeps in which rho follows the residuals."""
_FASTEST = 4.0


class _State(NamedTuple):
    """`y` is the sum of the duals; the point has the whole Hessian."""

    point: Point
    rho: float
    y: Vector
    n_sweeps: int
    stuck: bool


@dataclass(frozen=True)
class ADMM:
    """Each subproblem k fits its own rows near the consensus z, which is then made of all the fits.

    ``x_k = argmin f_k(x) + y_k . x + rho / 2 ||x - z||_k^2`` by one Newton step from z,
    ``y_k' = y_k + rho M_k (x_k - z)`` and
    ``z' = argmin penalty(v) - sum_k y_k' . v + rho / 2 sum_k ||x_k - v||_k^2``, with the share f_k of a
    subproblem in the mean loss and M_k its Hessian at z, in whose norm a fit is near. Over-relaxed by a, the
    dual moves on to ``y_k' + (a - 1) rho M_k (x_k - z')``.

    Newton's step in a norm of the same curvature leaves ``p_k = rho M_k (x_k - z) = -rho / (1 + rho) (g_k +
    y_k)``: all that z' needs is linear in the gradients g_k, the duals and M_k, so their sums are enough. No
    subproblem solves equations or keeps its dual, and the answer depends neither on how rows are cut into
    subproblems nor on the number of ranks. A sweep is a pass and a message of ``(d + 1)(d + 2) / 2 + d + 2``
    sums, as Newton's, so d is best at most a thousand.

    In these norms both residuals are changes of the duals: that of x_k - z is ``||y_k' - y_k|| / rho``, that
    of x_k's move rho times as much as a change of ``y_k'``. They need no scale, and are alike at rho = 1,
    which rho goes to, by at most a factor of 4 a sweep, for 50 sweeps. There, z' is the step of the proximal
    Newton method. Where the objective does not fall enough at z', the consensus stops short of it, where a
    line search says, and the duals begin anew; where it falls nowhere on the way, rho is 1 from then on.

    Parameters
    ----------
    rho : float
        The first one.
    relaxation : float
        Between 0 and 2; 1 is none. At rho = 1 the consensus does not depend on it.
    adapts : bool
        Whether rho follows the residuals and the objective. If not, any finite step is taken.

    References
    ----------
    Boyd, Parikh, Chu, Peleato and Eckstein, "Distributed Optimization and Statistical Learning via the
    Alternating Direction Method of Multipliers" (2011), sections 3.4 and 7.1, doi:10.1561/2200000016;
    Eckstein and Bertsekas 1992, doi:10.1007/BF01581204, for over-relaxation; Wohlberg 2017,
    arXiv:1704.06209, for residuals without a scale.
    """

    state_type: ClassVar[Any] = _State
    rho: float = 1.0
    relaxation: float = 1.6
    adapts: bool = True
    name: str = "admm"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, one pass and two messages."""
        point = objective.evaluate(w, columns=objective.all_columns)
        is_over = not point.is_finite or not point.gradient.any()
        return _State(point, self.rho, -_slope(objective, point), 0, is_over)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one pass and one message as a rule."""
        point, rho = state.point, state.rho
        slope, hessian = _slope(objective, point), _curvature(objective, point)
        term = make_term(state.y, slope, hessian, np.zeros_like(slope), rho)
        sums = RunningSums(objective, point.w, rho, term.sums)
        move = sums.minimum(point.w) - point.w
        new, t = self._moved(objective, point, move)
        if t == 0.0:
            return state._replace(rho=1.0, y=-slope, stuck=rho == 1.0 or not self.adapts)
        y = term.y + (self.relaxation - 1) * (term.y - state.y - rho * (hessian @ move))
        y = y if t == 1.0 else -_slope(objective, new)
        return _State(new, self._balanced(state), y, state.n_sweeps + 1, False)

    def _moved(self, objective: Objective, point: Point, move: Vector) -> tuple[Point, float]:
        """Return the next point, and its share of the move; 0 where there is none. Collective."""
        if self.adapts:
            return search(objective, point, move, 1.0, columns=objective.all_columns)
        new = objective.evaluate(point.w + move, columns=objective.all_columns, window=point.window)
        return (new, 1.0) if new.is_finite and move.any() else (point, 0.0)

    def _balanced(self, state: _State) -> float:
        """Return rho, nearer to where both residuals are alike."""
        if not self.adapts or state.n_sweeps >= _ADAPTS:
            return state.rho
        return float(np.clip(1.0, state.rho / _FASTEST, state.rho * _FASTEST))


def _slope(objective: Objective, point: Point) -> Vector:
    """Return the gradient of the mean loss: what the gradients of all subproblems come to."""
    return point.gradient - objective.whole_penalty.gradient(point.w)


def _curvature(objective: Objective, point: Point) -> NDArray[np.float64]:
    """Return the Hessian of the mean loss."""
    return point.hessian - np.diag(objective.whole_penalty.l2)
