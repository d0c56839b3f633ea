"""Newton's method on the features that matter, for penalties that make weights zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.quadratic import minimise_model

__all__ = ["ProximalNewton"]

_LEAST = 10


class _State(NamedTuple):
    point: Point
    columns: NDArray[np.int64]
    stuck: bool


@dataclass(frozen=True)
class ProximalNewton:
    """Minimise the quadratic model plus the penalty over a working set of features, then search on the line.

    The working set has the features with weight and, beside them, those whose subgradients are farthest
    from zero, at most as many again: the Hessian of k columns is ``k (k + 1) / 2`` sums and ``n k^2``
    operations. The next set is chosen from the gradient before its Hessian is computed, so an iteration is
    one pass and one message (two where the size of the set changes); the model is minimised on every process
    alike.

    References
    ----------
    Lee, Sun and Saunders 2014, doi:10.1137/130921428; Bertrand, Klopfenstein, Bannier, Gidel and Massias,
    "Beyond L1: Faster and Better Sparse Models with skglm", NeurIPS 2022, section 2.
    """

    state_type: ClassVar[Any] = _State
    name: str = "prox_newton"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two passes and four messages."""
        point = objective.evaluate(w)
        columns = _working_set(objective, point, point.w)
        if not _residual(objective, point).any():
            return _State(point, columns, True)
        return _State(objective.evaluate(w, columns=columns), columns, False)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, one message as a rule."""
        point = state.point
        target = minimise_model(objective, point, state.columns)
        columns = _working_set(objective, point, target)
        new, t = search(objective, point, target - point.w, 1.0, columns=columns)
        if t == 0.0:
            return self._wider(objective, state)
        return _State(new, columns, False)

    def _wider(self, objective: Objective, state: _State) -> _State:
        """Stay, with all features that violate: it is the end if the set had them already."""
        columns = np.flatnonzero(_residual(objective, state.point)[: objective.data.n_features])
        columns = np.union1d(columns, state.columns)
        if columns.size == state.columns.size:
            return state._replace(stuck=True)
        return _State(objective.evaluate(state.point.w, columns=columns), columns, False)


def _residual(objective: Objective, point: Point) -> Vector:
    """Return the smallest subgradient, (n_parameters,)."""
    return objective.whole_penalty.residual(point.w, point.gradient)


def _working_set(objective: Objective, point: Point, target: Vector) -> NDArray[np.int64]:
    """Return the features with weight here or there, and the worst of the others, in rising order."""
    d = objective.data.n_features
    has_weight = (point.w[:d] != 0) | (target[:d] != 0)
    violation = np.where(has_weight, 0.0, np.abs(_residual(objective, point)[:d]))
    most = max(_LEAST, int(has_weight.sum()))
    worst = np.argsort(-violation, kind="stable")[:most]
    return np.union1d(np.flatnonzero(has_weight), worst[violation[worst] > 0])
