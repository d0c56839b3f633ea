"""Which steps of a consensus are kept: rho grows where the objective rose."""

from __future__ import annotations

from hpcml.algorithms.objective import Point

__all__ = ["DAMPED", "LARGEST_RHO", "is_no_higher", "is_rounding"]

DAMPED = 4.0
"""What rho is multiplied by where the objective rose."""
LARGEST_RHO = 1e8
_ROUNDING = 1e-9
_TINY = 1e-15


def is_no_higher(new: Point, old: Point) -> bool:
    """Return whether a step is kept: the objective is a number, and rose by no more than rounding. Local."""
    return new.is_finite and new.value <= old.value + _ROUNDING * abs(old.value)


def is_rounding(square: float, last: float, value: float) -> bool:
    """Return whether a step leads nowhere. Local.

    It has no length, or the last one changed the objective by less than rounding and this is about as long.
    The squares are those of `RunningSums.square`.
    """
    return not square > 0 or (last <= _TINY * abs(value) and square > 0.25 * last)
