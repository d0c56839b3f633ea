"""Newton's method with conjugate gradients: no Hessian is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hpcml.algorithms.hessian_product import HessianProduct, make_hessian_product
from hpcml.algorithms.line_search import search
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["NewtonCG"]

_MOST_PRODUCTS = 250
_LOOSEST = 0.5


class _State(NamedTuple):
    point: Point
    first_norm: float
    stuck: bool


@dataclass(frozen=True)
class NewtonCG:
    """``H p = -g`` is solved by conjugate gradients as far as pays, then ``w <- w + t p``.

    It ends at ``||H p + g|| <= min(1/2, sqrt(||g|| / ||g_0||)) ||g||``, which makes the convergence
    superlinear. Features are scaled so that the diagonal of H is nearly constant, which is Jacobi's
    preconditioner. One pass and one message of d + 1 sums a product.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.1; Dembo, Eisenstat and Steihaug 1982,
    doi:10.1137/0719025.
    """

    state_type: ClassVar[Any] = _State
    name: str = "newton_cg"

    def init(self, objective: Objective, w: Vector) -> _State:
        """Return the state at w. Collective, two messages."""
        point = objective.evaluate(w)
        norm = float(np.linalg.norm(point.gradient))
        return _State(point, norm, norm == 0.0)

    def grown(self, objective: Objective, w: Vector, last: _State) -> _State:
        """Return the state at w, as a continuation of that on fewer rows. Collective, two messages."""
        return self.init(objective, w)._replace(first_norm=last.first_norm)

    def step(self, objective: Objective, state: _State) -> _State:
        """Return the next state. Collective, a message a product and one more as a rule."""
        point = state.point
        norm = float(np.linalg.norm(point.gradient))
        forcing = min(_LOOSEST, float(np.sqrt(norm / max(state.first_norm, 1e-300))))
        direction = _solved(make_hessian_product(objective, point.w), point.gradient, forcing * norm)
        new, t = search(objective, point, direction, 1.0)
        return _State(new, state.first_norm, t == 0.0)


def _solved(product: HessianProduct, gradient: Vector, enough: float) -> Vector:
    """Return p with ``||H p + g|| <= enough``, or the last p before H shows no curvature."""
    p = np.zeros_like(gradient)
    residual, ahead = -gradient, -gradient
    square = float(residual @ residual)
    for i in range(_MOST_PRODUCTS):
        if square <= enough * enough and i > 0:
            break
        image = product(ahead)
        curvature = float(ahead @ image)
        if not curvature > 0:
            return p if i else ahead
        step = square / curvature
        p = p + step * ahead
        residual = residual - step * image
        before, square = square, float(residual @ residual)
        ahead = residual + (square / before) * ahead
    return p
