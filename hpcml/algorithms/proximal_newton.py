"""Newton's method on the features that matter, for penalties that make weights zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.quadratic import minimise_model
from hpcml.algorithms.sampled_objective import for_hessians

__all__ = ["ProximalNewton"]

_LEAST = 10
_CHEAP = 4.0
_MOST = 200
"""The Hessian of `_CHEAP` times sqrt(d) columns takes about as long as reading d; its sums stay few."""
_NO_HESSIAN = np.zeros((0, 0))
_ENOUGH = 0.1
"""Share of the violation that a step may leave and its Hessian still be good."""
_SAMPLED = 3
"""Hessians of a sample before the first of all rows: far from the optimum they lead as far."""


class _State(NamedTuple):
    point: Point
    columns: NDArray[np.int64]
    hessian: Vector
    n_sampled: int
    is_fresh: bool
    share: float
    stuck: bool


@dataclass(frozen=True)
class ProximalNewton:
    """Minimise the quadratic model plus the penalty over a working set of features, then search on the line.

    The working set has the features with weight and, beside them, those whose subgradients are farthest
    from zero, at most as many again: the Hessian of k columns is ``k (k + 1) / 2`` sums and ``n k^2``
    operations. At least as many are taken as cost no more than reading the rows.

    Of many rows the first Hessians are those of a sample, at the point where they are used. Later the next
    set is chosen from the gradient before its Hessian is computed, so an iteration is one pass and one
    message (two where the size of the set changes). A Hessian stays as long as steps with it leave at most a
    tenth of the violation; a pass is then one of the gradient alone. The model is minimised on every process
    alike.

    References
    ----------
    Lee, Sun and Saunders 2014, doi:10.1137/130921428; Bertrand, Klopfenstein, Bannier, Gidel and Massias,
    "Beyond L1: Faster and Better Sparse Models with skglm", NeurIPS 2022, section 2.
    """

    state_type: ClassVar[Any] = _State
    name: str = "prox_newton"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two passes and four messages, or six."""
        point = objective.evaluate(w)
        columns = _working_set(objective, point, point.w)
        if not _residual(objective, point).any():
            return _State(point, columns, _NO_HESSIAN, 0, False, 1.0, True)
        return _sampled(objective, point, columns, 1) or _whole(objective, w, columns)

    def grown(self, objective: Objective, w: Vector, last: _State) -> _State:
        """Return the state at w, with the Hessian of fewer rows. Collective, two messages."""
        point = objective.evaluate(w)
        is_done = not _residual(objective, point).any()
        return last._replace(point=point, n_sampled=_SAMPLED, is_fresh=False, share=0.0, stuck=is_done)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule, five with the Hessian of a sample."""
        point, columns = state.point, None
        target = minimise_model(objective, point._replace(hessian=state.hessian), state.columns)
        if state.n_sampled == _SAMPLED and not _is_good(objective, state):
            columns = _working_set(objective, point, target)
        new, t = search(objective, point, target - point.w, 1.0, columns=columns)
        if t == 0.0:
            return self._wider(objective, state)
        share = _violation(objective, new) / _violation(objective, point)
        if columns is not None:
            return _fresh(new, columns, share)
        following = state._replace(point=new, is_fresh=False, share=share)
        if state.n_sampled == _SAMPLED or _is_good(objective, following):
            return following
        columns = _working_set(objective, new, new.w)
        return _sampled(objective, new, columns, state.n_sampled + 1) or _whole(objective, new.w, columns)

    def _wider(self, objective: Objective, state: _State) -> _State:
        """Stay, with the Hessian of here, then all features that violate: the end if the set had them."""
        if not state.is_fresh:
            return _whole(objective, state.point.w, _working_set(objective, state.point, state.point.w))
        columns = np.flatnonzero(_residual(objective, state.point)[: objective.data.n_features])
        columns = np.union1d(columns, state.columns)
        if columns.size == state.columns.size:
            return state._replace(stuck=True)
        return _whole(objective, state.point.w, columns)


def _whole(objective: Objective, w: Vector, columns: NDArray[np.int64]) -> _State:
    """Return the state at w with the Hessian of all rows. Collective, a pass and two messages."""
    return _fresh(objective.evaluate(w, columns=columns), columns, 1.0)


def _fresh(point: Point, columns: NDArray[np.int64], share: float) -> _State:
    """Return the state at a point with its own Hessian."""
    bare = point._replace(hessian=_NO_HESSIAN)
    return _State(bare, columns, point.hessian, _SAMPLED, True, share, False)


def _sampled(objective: Objective, point: Point, columns: NDArray[np.int64], n_sampled: int) -> _State | None:
    """Return the state at a point with the Hessian of a sample, or None. Collective, four messages."""
    sample = for_hessians(objective, columns.size)
    if sample is None:
        return None
    hessian = sample.evaluate(point.w, columns=columns).hessian
    return _State(point, columns, hessian, n_sampled, False, 1.0, False)


def _is_good(objective: Objective, state: _State) -> bool:
    """Tell whether a step is to gain much, and the worst violation is within the columns.

    What a step with the Hessian of here leaves is about the square of what the last one left.
    """
    expected = state.share * state.share if state.is_fresh else state.share
    worst = int(np.argmax(np.abs(_residual(objective, state.point))))
    return expected <= _ENOUGH and (worst >= objective.n_weights or worst in state.columns)


def _violation(objective: Objective, point: Point) -> float:
    return float(np.abs(_residual(objective, point)).max())


def _residual(objective: Objective, point: Point) -> Vector:
    """Return the smallest subgradient, (n_parameters,)."""
    return objective.whole_penalty.residual(point.w, point.gradient)


def _working_set(objective: Objective, point: Point, target: Vector) -> NDArray[np.int64]:
    """Return the features with weight here or there, and the worst of the others, in rising order."""
    d = objective.data.n_features
    has_weight = (point.w[:d] != 0) | (target[:d] != 0)
    violation = np.where(has_weight, 0.0, np.abs(_residual(objective, point)[:d]))
    most = max(_LEAST, int(has_weight.sum()), min(int(_CHEAP * np.sqrt(d)), _MOST))
    worst = np.argsort(-violation, kind="stable")[:most]
    return np.union1d(np.flatnonzero(has_weight), worst[violation[worst] > 0])
