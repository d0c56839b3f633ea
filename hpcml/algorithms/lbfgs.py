"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.history import inverse_product
from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["LBFGS"]


class _State(NamedTuple):
    point: Point
    moves: NDArray[np.float64]
    changes: NDArray[np.float64]
    stuck: bool


@dataclass(frozen=True)
class LBFGS:
    """Quasi-Newton steps from the last `memory` moves s and changes y of the gradient.

    One message an iteration where the full step is accepted; the history is replicated.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5.
    """

    state_type: ClassVar[Any] = _State
    memory: int = 10
    name: str = "lbfgs"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        point = objective.evaluate(w)
        empty = np.zeros((0, w.size))
        return _State(point, empty, empty, not point.gradient.any())

    def grown(self, objective: Objective, w: Vector, last: _State) -> _State:
        """Return the state at w, with the history of fewer rows. Collective, two messages."""
        return self.init(objective, w)._replace(moves=last.moves, changes=last.changes)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state; a history that misleads is dropped once. Collective."""
        point = state.point
        direction = -inverse_product(state.moves, state.changes, point.gradient)
        guess = 1.0 if len(state.moves) else 1.0 / max(float(np.linalg.norm(point.gradient)), 1e-300)
        new, t = search(objective, point, direction, guess)
        if t == 0.0:
            empty = state.moves[:0]
            return state._replace(moves=empty, changes=empty, stuck=not len(state.moves))
        s, y = new.w - point.w, new.gradient - point.gradient
        if not float(s @ y) > 1e-14 * float(np.linalg.norm(s) * np.linalg.norm(y)):
            return state._replace(point=new)
        moves = np.concatenate([state.moves, s[None]])[-self.memory :]
        return _State(new, moves, np.concatenate([state.changes, y[None]])[-self.memory :], False)
