"""Accept a trial step, or find a better one from cached margins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["search"]

_SUFFICIENT = 1e-4
_ROUNDING = 1e-10
_GRID = 2.0 ** np.arange(6, -26, -2)


def _accepts(reference: float, slope: float, step: float, trial: Point, slope_there: float) -> bool:
    """Armijo's rule, or where rounding hides the decrease Hager and Zhang's rule on slopes."""
    if not trial.is_finite:
        return False
    if trial.value <= reference + _SUFFICIENT * step * slope:
        return True
    flat = trial.value <= reference + _ROUNDING * abs(reference)
    return flat and slope_there <= (2 * _SUFFICIENT - 1) * slope


def search(
    objective: Objective,
    start: Point,
    direction: Vector,
    guess: float,
    *,
    reference: float | None = None,
    columns: NDArray[np.int64] | None = None,
) -> tuple[Point, float]:
    """Return the next point on ``w + t direction`` and its step t; t = 0 where none is better.

    Collective: one pass and one message where the guess is good. Otherwise one more pass gives the
    margins, 16 steps are tried on those without a pass, and the best is evaluated: three messages more.

    ``F(w + t p) <= reference + 1e-4 t p . g`` is asked for (Nocedal and Wright, "Numerical Optimization",
    2006, section 3.1), or near the minimum, where the difference is rounding, the slope condition of Hager
    and Zhang 2005, doi:10.1137/030601880, equation 4.1. With the rough part r of the penalty, ``p . g + r(w +
    p) - r(w)`` stands for the slope (Lee, Sun and Saunders 2014, doi:10.1137/130921428, section 2.3).

    Parameters
    ----------
    start : Point
    direction : (n_parameters,) array
        Downhill. Where the penalty has a rough part, the whole step to the minimiser of a model.
    guess : float
        Step to try first.
    reference : float, optional
        Value to improve on; that of `start` by default.
    columns : (k,) array of int64, optional
        Evaluate the Hessian of these columns too.
    """
    slope = _slope(objective, start, start.gradient, direction)
    reference = start.value if reference is None else reference
    first = start.w + guess * direction
    if not slope < 0 or (first == start.w).all():  # a step that rounding swallows would be taken for ever
        return start, 0.0
    trial = objective.evaluate(first, columns=columns, window=start.window)
    if _accepts(reference, slope, guess, trial, _slope(objective, start, trial.gradient, direction)):
        return trial, guess
    steps = np.asarray(guess * _GRID, np.float64)
    values = objective.line(start.w, direction).values(steps)
    good = np.isfinite(values) & (values <= reference + _SUFFICIENT * steps * slope)
    if not good.any():
        return start, 0.0
    best = float(steps[np.argmin(np.where(good, values, np.inf))])
    trial = objective.evaluate(start.w + best * direction, columns=columns, window=start.window)
    return (trial, best) if trial.is_finite else (start, 0.0)


def _slope(objective: Objective, start: Point, gradient: Vector, direction: Vector) -> float:
    """Return the slope along a direction, of the rough part the mean over the whole step."""
    if objective.penalty.is_smooth:
        return float(gradient @ direction)
    # Summed before the product: near the minimum the two nearly cancel.
    return float((gradient + objective.whole_penalty.secant(start.w, direction)) @ direction)
