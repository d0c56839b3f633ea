"""Asynchronous consensus ADMM: subproblems and the consensus wait for nobody between two evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.local_models import local_models
from hpcml.algorithms.meeting import LAGS, Outcome, Pace, meet
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.reduction import reduce_stream
from hpcml.algorithms.running_sums import RunningSums, packed, unpacked
from hpcml.algorithms.state import Sharded, Transient
from hpcml.algorithms.workshop import Workshop, make_term
from hpcml.data import Block, own_runs
from hpcml.errors import SpecError, shared

__all__ = ["AsyncADMM"]

_DAMPED = 4.0
"""What rho is multiplied by where the objective rose; half of that is taken back where it fell."""
_LARGEST_RHO = 1e8
_ROUNDING = 1e-9
_TINY = 1e-15
_MOST_PARAMETERS = 8000
"""A letter holds a Hessian, and no message is longer than 256 MiB."""


class _State(NamedTuple):
    """Where all subproblems have seen w.

    `sums` and `sum_y` are those of the mean loss and of the duals, `first` is the square of the first move of
    the last step; `lags` and `updates` count what has been done so far.
    """

    point: Point
    rho: float
    sums: Vector
    sum_y: Vector
    y: Sharded
    parts: Transient
    first: float
    stuck: bool
    lags: NDArray[np.int64]
    updates: NDArray[np.int64]

    def report(self) -> dict[str, Any]:
        """Return how many updates were of each staleness, by the least number of its class. Local."""
        names = ["0", *(str(1 << i) for i in range(LAGS - 1))]
        least, most = int(self.updates.min()), int(self.updates.max())
        return {
            "staleness": {name: int(n) for name, n in zip(names, self.lags, strict=True) if n},
            "updates": {"all": int(self.updates.sum()), "least": least, "most": most},
            "subproblems": self.updates.size,
        }


class _Swept(NamedTuple):
    """The objective at w, and gradients, Hessians and duals of the subproblems there: mine, and summed."""

    point: Point
    sums: Vector
    sum_y: Vector
    y: NDArray[np.float64]
    parts: NDArray[np.float64]


@dataclass(frozen=True)
class AsyncADMM:
    """Each subproblem fits its own rows near the last consensus that it has heard of, and sends what changed.

    ``x_k = argmin f_k(x) + y_k . x + rho / 2 ||x - z||_k^2`` by one Newton step from z,
    ``y_k' = y_k + rho M_k (x_k - z)`` and
    ``z' = argmin penalty(v) - sum_k y_k' . v + rho / 2 sum_k ||x_k - v||_k^2``, in norms of the subproblems'
    own curvature M_k. The sums are kept, not taken anew: an update adds new terms less old ones, d^2 / 2
    numbers. With rho = 1 the duals cancel in z, which is then the minimum of the sum of the subproblems'
    quadratic models, each at the last z that it saw: the incremental Newton method, which converges faster
    than linearly near the optimum, whatever the order of the updates.

    A step is a meeting, in which processes work at their own pace, and one evaluation together at the
    consensus it ended with. Where the objective rose, the consensus is dropped and rho grows.

    Not deterministic on several processes: bits depend on who came when. The certificate does not.

    Parameters
    ----------
    rho : float
        The first one, and the least.
    adapts : bool
        Whether rho grows where the objective rose.
    min_batch : float
        Subproblems that must be updated before there is a new consensus; below 1 a share of them all.
    max_staleness : int
        Rounds that a process may be ahead of the slowest one.

    References
    ----------
    Zhang and Kwok, "Asynchronous Distributed ADMM for Consensus Optimization", ICML 2014; Chang, Hong, Liao
    and Wang, "Asynchronous Distributed ADMM for Large-Scale Optimization", IEEE Trans. Signal Processing 64
    (2016), doi:10.1109/TSP.2016.2537271; Rodomanov and Kropotov, "A Superlinearly-Convergent Proximal
    Newton-Type Method for the Optimization of Finite Sums", ICML 2016.
    """

    state_type: ClassVar[Any] = _State
    rho: float = 1.0
    adapts: bool = True
    min_batch: float = 1.0
    max_staleness: int = 4
    name: str = "async_admm"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, one pass and two messages, of d^2 / 2 sums.

        Raises
        ------
        SpecError
            More than 8,000 parameters.
        """
        if w.size > _MOST_PARAMETERS:
            sentence = (
                f"solver {self.name} sends Hessians of at most {_MOST_PARAMETERS} parameters, not {w.size}"
            )
            raise shared(SpecError(sentence))
        swept = _swept(objective, w, None, None)
        nothing = np.zeros(LAGS, np.int64), np.zeros(objective.data.partition.n_runs, np.int64)
        is_over = not swept.point.is_finite or not swept.point.gradient.any()
        return _arrived(swept, self.rho, np.inf, is_over, *nothing)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective: letters, then one pass and one message as a rule."""
        w = state.point.w
        sums = self._sums(objective, state)
        z = sums.minimum(w)
        first = sums.square(z - w)
        is_rounding = state.first <= _TINY * abs(state.point.value) and first > 0.25 * state.first
        if is_rounding or not first > 0:
            return state._replace(stuck=True)
        shop = self._workshop(objective, state)
        data, parts = objective.data, shop.parts
        met = meet(data.comm.mailbox(), data.partition, sums, shop, (w, z), self._pace(objective))
        swept = _swept(objective, met.z, shop.y, state.point.window)
        return self._next(state, swept, parts, first, met)

    def _workshop(self, objective: Objective, state: _State) -> Workshop:
        """Return my subproblems at w; a state from a checkpoint takes a pass for them."""
        w, data = state.point.w, objective.data
        y = state.y.own(own_runs(data), data.partition.n_runs)
        parts = state.parts.rows if len(state.parts.rows) else _parts(objective, w)
        return Workshop(objective, w, state.rho, y, parts, self._pace(objective).min_batch)

    def _pace(self, objective: Objective) -> Pace:
        n_runs = objective.data.partition.n_runs
        batch = self.min_batch if self.min_batch >= 1 else self.min_batch * n_runs
        return Pace(int(np.clip(round(batch), 1, max(n_runs, 1))), self.max_staleness)

    def _sums(self, objective: Objective, state: _State) -> RunningSums:
        """Return the running sums where all subproblems have seen w."""
        w = state.point.w
        gradient, hessian = unpacked(state.sums, w.size)
        term = make_term(state.sum_y, gradient, hessian, np.zeros_like(w), state.rho)
        return RunningSums(objective, w, state.rho, term.sums)

    def _next(
        self, state: _State, swept: _Swept, parts: NDArray[np.float64], first: float, met: Outcome
    ) -> _State:
        """Return the state at the new point, or at the old one with more damping."""
        lags, updates = state.lags + met.lags, state.updates + met.updates
        old, new = state.point.value, swept.point.value
        is_finite = swept.point.is_finite
        if is_finite and (not self.adapts or new <= old + _ROUNDING * abs(old)):
            return _arrived(swept, max(self.rho, 2 * state.rho / _DAMPED), first, False, lags, updates)
        gradient, _ = unpacked(state.sums, state.sum_y.size)
        return state._replace(
            rho=_DAMPED * state.rho,
            sum_y=-gradient,
            y=Sharded(-parts[:, : gradient.size]),
            parts=Transient(parts),
            first=np.inf,
            stuck=not self.adapts or state.rho > _LARGEST_RHO,
            lags=lags,
            updates=updates,
        )


def _arrived(
    swept: _Swept, rho: float, first: float, stuck: bool, lags: NDArray[np.int64], updates: NDArray[np.int64]
) -> _State:
    y, parts = Sharded(swept.y), Transient(swept.parts)
    return _State(swept.point, rho, swept.sums, swept.sum_y, y, parts, first, stuck, lags, updates)


def _parts(objective: Objective, w: Vector) -> NDArray[np.float64]:
    """Return gradient and Hessian of each of my subproblems at w, packed. Local, one pass."""
    models = local_models(objective, w, objective.data.blocks())
    n_sums = w.size * (w.size + 3) // 2
    return np.reshape([packed(model.gradient, model.hessian) for model in models], (-1, n_sums))


def _swept(
    objective: Objective, w: Vector, y: NDArray[np.float64] | None, window: NDArray[np.int64] | None
) -> _Swept:
    """Evaluate at w; duals that are None are those that fit w. Collective, one pass and one message."""
    runs, d, p = own_runs(objective.data), objective.data.n_features, w.size
    n_sums = 3 + 2 * d + d * (d + 1) // 2
    parts = np.zeros((len(runs), p * (p + 3) // 2))
    duals = np.zeros((len(runs), p)) if y is None else y

    def terms(blocks: Iterator[Block]) -> Iterator[NDArray[np.float64]]:
        for i, model in enumerate(local_models(objective, w, blocks)):
            parts[i] = packed(model.gradient, model.hessian)
            if y is None:
                duals[i] = -model.gradient
            yield np.concatenate([model.sums, duals[i]])[None]

    reduced = reduce_stream(objective.data, terms, n_sums + p, window=window, ballot=objective.ballot)
    loss = objective.mean_loss(reduced.total[:n_sums], objective.all_columns)
    point = objective.penalised(w, loss._replace(hessian=np.zeros((0, 0))), None, reduced.window)
    return _Swept(point, packed(loss.gradient, loss.hessian), reduced.total[n_sums:], duals, parts)
