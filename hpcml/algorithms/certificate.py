"""Proof that a point is optimal, computed apart from the solver that found it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["Certificate", "Reference", "certify", "estimate", "make_reference"]

_NEWTON_STEPS = 20


class Reference(NamedTuple):
    """What a certificate is relative to: the objective and its gradient at w = 0."""

    value: float
    gradient_max: float


class Certificate(NamedTuple):
    """How far from optimal a point can be.

    Attributes
    ----------
    value : float
        What `tol` is compared with: the relative duality gap, or the scaled KKT residual.
    kind : {"duality_gap", "kkt"}
    gap : float
        ``F - bound`` in units of the objective; NaN for kind "kkt".
    intercept_gradient : float
        |dF/db|, which the bound takes to be zero.
    """

    value: float
    kind: str
    gap: float
    intercept_gradient: float


def make_reference(point: Point) -> Reference:
    """Return the reference from the point at w = 0. Local."""
    return Reference(point.value, float(np.abs(point.gradient).max(initial=0.0)))


def _certificate(objective: Objective, reference: Reference, point: Point) -> Certificate:
    """Return the certificate of a point whose intercept is optimal. Local.

    For l2 the dual point ``-r`` gives ``F(w) - D = sum_j g_j^2 / (2 alpha_j)``: Fenchel and Young hold with
    equality, so the losses cancel. It is feasible where ``sum s r = 0``, which is dF/db = 0. Without a
    penalty it is ``||g||_inf / ||g at 0||_inf``.

    References
    ----------
    Boyd and Vandenberghe, "Convex Optimization" (2004), section 5.5.
    """
    weights, _ = objective.split(point.gradient)
    at_intercept = abs(float(point.gradient[-1])) if objective.fit_intercept else 0.0
    if objective.penalty.is_strong:
        gap = float(np.sum(np.square(weights) / (2 * objective.penalty.alpha)))
        scale = max(reference.value, float(np.finfo(float).eps))
        return Certificate(gap / scale, "duality_gap", gap, at_intercept)
    largest = float(np.abs(point.gradient).max(initial=0.0))
    value = largest / reference.gradient_max if reference.gradient_max else float(largest > 0)
    return Certificate(value, "kkt", float("nan"), at_intercept)


def estimate(objective: Objective, reference: Reference, point: Point) -> float:
    """Return the certificate that a point would have, counting its intercept roughly. Local."""
    found = _certificate(objective, reference, point)
    if found.kind == "kkt":
        return found.value
    return found.value + found.intercept_gradient**2 / max(reference.value, float(np.finfo(float).eps))


def _with_best_intercept(objective: Objective, w: Vector) -> Vector:
    """Return w with the intercept where dF/db vanishes. Collective, one pass and two messages a step.

    Newton's method on one number, from cached margins: no further pass over X.
    """
    along = np.zeros(objective.n_parameters)
    along[-1] = 1.0
    line = objective.line(w, along)
    step = moved = 0.0
    smallest = np.inf
    for _ in range(_NEWTON_STEPS):
        slope, curvature = line.derivatives(step)
        if not abs(slope) < smallest or curvature <= 0:
            break
        smallest, moved = abs(slope), step
        step -= slope / curvature
    return w + moved * along


def certify(objective: Objective, reference: Reference, point: Point) -> tuple[Point, Certificate]:
    """Return the point with its best intercept, and its certificate.

    Collective: two passes; at most 44 messages, usually 8. The gradient is computed anew.
    """
    w = _with_best_intercept(objective, point.w) if objective.fit_intercept else point.w
    fresh = objective.evaluate(w)
    return fresh, _certificate(objective, reference, fresh)
