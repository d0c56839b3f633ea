"""How long the steps of gradient descent are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcml.algorithms.hessian_product import HessianProduct
from hpcml.algorithms.line_search import search
from hpcml.algorithms.losses.kinds import facts_of
from hpcml.algorithms.objective import Objective, Point, Vector
from hpcml.algorithms.pairs import misfit
from hpcml.errors import SpecError, shared

__all__ = ["Armijo", "BarzilaiBorwein", "Constant", "InverseCurvature", "StepRule", "largest_curvature"]

_MOST_PRODUCTS = 30
_ROUNDING = 1e-12


class StepRule(Protocol):
    """Where the next point is, and which step to try after it."""

    @property
    def memory(self) -> int:
        """Values of the objective that the rule looks at."""

    def first(self, objective: Objective, point: Point) -> float:
        """Return the first step to try, from where the descent starts."""

    def moved(self, objective: Objective, point: Point, guess: float, values: Vector) -> tuple[Point, float]:
        """Return the next point, or the same, and its step; 0 where none is better. Collective."""

    def following(self, point: Point, new: Point, step: float) -> float:
        """Return the step to try next. Local."""


def _unit(point: Point) -> float:
    return 1.0 / max(float(np.linalg.norm(point.gradient)), 1e-300)


@dataclass(frozen=True)
class BarzilaiBorwein:
    """``t = (s . s) / (s . y)`` from the last move s and its change y of gradient.

    The step must improve on the largest of the last values, else a line search on cached margins finds one.

    References
    ----------
    Barzilai and Borwein 1988, doi:10.1093/imanum/8.1.141; Raydan 1997, doi:10.1137/S1052623494266365.
    """

    memory: int = 10

    def first(self, objective: Objective, point: Point) -> float:
        """Return the step of length one. Local."""
        return _unit(point)

    def moved(self, objective: Objective, point: Point, guess: float, values: Vector) -> tuple[Point, float]:
        """Return the next point and its step. Collective, one message as a rule."""
        return search(objective, point, -point.gradient, guess, reference=float(values.max()))

    def following(self, point: Point, new: Point, step: float) -> float:
        """Return what the curvature along the last move asks for. Local."""
        s, y = new.w - point.w, new.gradient - point.gradient
        curvature = float(s @ y)
        return float(s @ s) / curvature if curvature > 0 else 2 * step


@dataclass(frozen=True)
class Armijo:
    """Twice the last step, shortened by a line search on cached margins until the objective falls enough.

    References
    ----------
    Armijo 1966, doi:10.2140/pjm.1966.16.1.
    """

    memory: int = 1

    def first(self, objective: Objective, point: Point) -> float:
        """Return the step of length one. Local."""
        return _unit(point)

    def moved(self, objective: Objective, point: Point, guess: float, values: Vector) -> tuple[Point, float]:
        """Return the next point and its step. Collective, one message, or four where the guess is long."""
        return search(objective, point, -point.gradient, guess)

    def following(self, point: Point, new: Point, step: float) -> float:
        """Return twice the last step. Local."""
        return 2 * step


@dataclass(frozen=True)
class Constant:
    """The same step always, whatever comes of it: in the scaled features, as every solver's weights are.

    Parameters
    ----------
    size : float
    """

    size: float
    memory: int = 1

    def first(self, objective: Objective, point: Point) -> float:
        """Return the step. Local."""
        return self.size

    def moved(self, objective: Objective, point: Point, guess: float, values: Vector) -> tuple[Point, float]:
        """Return the next point. Collective, one message."""
        new = objective.evaluate(point.w - guess * point.gradient, window=point.window)
        return new, 0.0 if (new.w == point.w).all() else guess

    def following(self, point: Point, new: Point, step: float) -> float:
        """Return the step. Local."""
        return self.size


@dataclass(frozen=True)
class InverseCurvature:
    """``t = 1 / L`` with L = `largest_curvature`; halved where F rises, for L is found from below.

    References
    ----------
    Nesterov, "Introductory Lectures on Convex Optimization" (2004), section 2.1.5.
    """

    memory: int = 1

    def first(self, objective: Objective, point: Point) -> float:
        """Return 1 / L. Collective, a message a product."""
        return 1.0 / largest_curvature(objective, point.gradient)

    def moved(self, objective: Objective, point: Point, guess: float, values: Vector) -> tuple[Point, float]:
        """Return the next point and step, or the same point and half the step. Collective, one message."""
        new, step = Constant(guess).moved(objective, point, guess, values)
        if new.is_finite and new.value <= point.value + _ROUNDING * abs(point.value):
            return new, step
        return point, guess / 2

    def following(self, point: Point, new: Point, step: float) -> float:
        """Return the last step. Local."""
        return step


def largest_curvature(objective: Objective, start: Vector) -> float:
    """Return about the largest eigenvalue of ``c (1 / sum s) U^T S U + diag(l2, 0)``, U = [u, 1].

    c is the largest curvature of the loss, so no Hessian bends more. By power iteration from agreed numbers,
    until it grows by less than 0.1 %; then 1 % is added. Collective, a pass and a message a product.

    Parameters
    ----------
    objective : Objective
        Of a loss of bounded curvature.
    start : (n_parameters,) array

    Raises
    ------
    SpecError
        The loss has another.
    """
    bound = objective.loss.max_curvature
    if sentence := misfit("constant", facts_of(objective.loss), is_smooth=True):
        raise shared(SpecError(f"a constant step {sentence}"))
    product = HessianProduct(
        objective, {block.start: bound * block.weights for block in objective.data.blocks()}
    )
    v, last = start + 1e-3 * max(float(np.abs(start).max()), 1e-300), 0.0
    for _ in range(_MOST_PRODUCTS):
        image = product(v / np.linalg.norm(v))
        size = float(np.linalg.norm(image))
        if not size > 1.001 * last:
            break
        v, last = image, size
    return 1.01 * max(size, 1e-300)
