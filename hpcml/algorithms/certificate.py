"""Proof that a point is optimal, computed apart from the solver that found it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hpcml.algorithms.objective import AT_ZERO, Objective, Point, Start, Vector

__all__ = ["Certificate", "Reference", "certify", "estimate", "make_reference"]

_INTERCEPT_STEPS = 80
_EPS = float(np.finfo(float).eps)
_FLAT = 1e-7
"""Share of the gradient at zero up to which dF/db is taken to vanish."""


class Reference(NamedTuple):
    """What a certificate is relative to: the objective and its gradient at the start, where w = 0.

    The value is above the least mean of the loss: for a log link, half the deviance of the constant model.
    """

    value: float
    gradient_max: float


class Certificate(NamedTuple):
    """How far from optimal a point can be.

    Attributes
    ----------
    value : float
        What `tol` is compared with: the relative duality gap, or the scaled KKT residual.
    kind : {"duality_gap", "kkt", "stationary"}
        "stationary" is the scaled KKT residual of a loss that is not convex: no proof of a minimum.
    gap : float
        ``F - bound`` in units of the objective; NaN for the other kinds.
    intercept_gradient : float
        |dF/db|, which the bound takes to be zero; the largest of several.
    """

    value: float
    kind: str
    gap: float
    intercept_gradient: float


def make_reference(point: Point, start: Start = AT_ZERO) -> Reference:
    """Return the reference from the point where the fit starts. Local."""
    steepest = float(np.abs(point.gradient).max(initial=0.0))
    return Reference(point.value - start.least, max(steepest, start.flat))


def _certificate(objective: Objective, reference: Reference, point: Point) -> Certificate:
    """Return the certificate of a point whose intercept is optimal. Local.

    The dual point is ``-t r`` with the slopes r of the loss and the largest t <= 1 at which the conjugate of
    the penalty p is finite: t = 1 where every weight has an l2 strength. It is feasible for the intercept
    where ``sum s r = 0``, which is dF/db = 0. With the mean loss L, its gradient q, Fenchel's and Young's
    equality at r, and ``f*(t r) <= t f*(r) + (1 - t) f*(0)``, since conjugates are convex,

        ``F(w) - D <= (1 - t) (L(w) - L_min) + p(w) + p*(-t q) + t q . w``

    with a bound L_min below L. Without a penalty it is ``||g||_inf / ||g at 0||_inf`` of the smallest
    subgradients g.

    References
    ----------
    Boyd and Vandenberghe, "Convex Optimization" (2004), section 5.5; Massias, Vaiter, Gramfort and Salmon,
    "Dual Extrapolation for Sparse GLMs", JMLR 21 (2020), section 2.
    """
    penalty = objective.penalty
    w, _ = objective.split(point.w)
    gradient, _ = objective.split(point.gradient)
    at_intercept = float(np.abs(point.gradient[objective.n_weights :]).max(initial=0.0))
    if penalty.has_gap and objective.loss.is_convex:
        slope = penalty.gradient(w) - gradient
        share = penalty.feasible_share(slope)
        loss = point.value - penalty.value(w) - objective.start.least
        gap = (1 - share) * loss + penalty.fenchel_gap(w, share * slope)
        scale = max(reference.value, _EPS)
        return Certificate(gap / scale, "duality_gap", gap, at_intercept)
    largest = max(float(np.abs(penalty.residual(w, gradient)).max(initial=0.0)), at_intercept)
    value = largest / reference.gradient_max if reference.gradient_max else float(largest > 0)
    kind = "kkt" if objective.loss.is_convex else "stationary"
    return Certificate(value, kind, float("nan"), at_intercept)


def estimate(objective: Objective, reference: Reference, point: Point) -> float:
    """Return the certificate that a point would have, counting its intercept roughly. Local."""
    found = _certificate(objective, reference, point)
    if found.kind != "duality_gap":
        return found.value
    slope = found.intercept_gradient  # a power of it would raise where it overflows
    return found.value + slope * slope / max(reference.value, _EPS)


def _with_best_intercept(objective: Objective, w: Vector) -> Vector:
    """Return w with the intercept where dF/db vanishes. Collective, one pass and two messages a step.

    Newton's method on one number, or the loss's own rule, held in a bracket since it diverges far from the
    optimum; from cached margins, without a further pass over X. It ends where rounding hides the slope.
    Intercepts of several classes are found together.
    """
    if objective.loss.n_outputs > 1:
        from hpcml.algorithms.class_intercepts import with_best_intercepts  # few fits have several classes

        return with_best_intercepts(objective, w)
    along = np.zeros(objective.n_parameters)
    along[-1] = 1.0
    line = objective.line(w, along)
    step = best = 0.0
    smallest, low, high = np.inf, -np.inf, np.inf
    for i in range(_INTERCEPT_STEPS):
        slope, curvature = line.derivatives(step)
        if abs(slope) < smallest:
            smallest, best = abs(slope), step
        elif i and not abs(step - best) > 1e-6 * max(1.0, abs(best)):
            break
        low, high = (step, high) if slope < 0 else (low, step)
        near = step + objective.loss.shift(slope, curvature) if curvature > 0 else np.inf
        step = _next_step(step, slope, near, (low, high), 2.0**i)
        if smallest == 0.0 or step == best:
            break
    return w + best * along


def _next_step(
    step: float, slope: float, near: float, bracket: tuple[float, float], farthest: float
) -> float:
    """Return the loss's own guess if it is near and inside the bracket, else the middle or a longer step."""
    if bracket[0] < near < bracket[1] and abs(near - step) <= farthest:
        return near
    middle = 0.5 * (bracket[0] + bracket[1])
    return middle if np.isfinite(middle) else step - float(np.sign(slope)) * farthest


def certify(objective: Objective, reference: Reference, point: Point) -> tuple[Point, Certificate]:
    """Return the point with its best intercept, and its certificate.

    Collective: two passes; two messages a step of the intercept, usually 8 in all, and two for the
    gradient, which is computed anew. Where dF/db could not be brought to zero there is no bound: the gap is
    infinite, and the value at least dF/db over the largest gradient at w = 0.
    """
    w = _with_best_intercept(objective, point.w) if objective.fit_intercept else point.w
    fresh = objective.evaluate(w)
    found = _certificate(objective, reference, fresh)
    if found.kind == "duality_gap" and found.intercept_gradient > _FLAT * reference.gradient_max:
        residual = found.intercept_gradient / max(reference.gradient_max, 1e-300)
        found = found._replace(value=max(found.value, residual), gap=float("inf"))
    return fresh, found
