"""Losses of a mean ``exp(z)``: half the deviances of Poisson, gamma and Tweedie distributions.

Values leave out what depends on y alone, as scikit-learn's do; `least` is the smallest value at a row, so
that half the deviance is ``value - least``. Powers of ``exp(z)`` are held at ``exp(700)``: such a row makes
a step bad enough to be refused, and one of weight zero still has no effect, which infinity times zero would.

References
----------
Jorgensen, "The Theory of Dispersion Models" (1997), chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.losses.base import Formula, Terms, Vector

__all__ = ["Gamma", "Poisson", "Tweedie"]

_LARGEST = 700.0
_HELD = 1e280
"""A mean above this has rows that were held, and says nothing of how it grows."""


def _exp(z: Vector) -> Vector:
    return np.asarray(np.exp(np.minimum(z, _LARGEST)))


class _LogLink:
    """What follows from ``slope = A - B``, ``A = exp((2 - p) z)`` and ``B = y exp((1 - p) z)``."""

    power: float
    n_outputs = 1
    max_curvature = np.inf
    has_log_link = True

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels. Local."""
        return Formula({1.0: "poisson", 2.0: "gamma"}.get(self.power, "tweedie"), self.power)

    @property
    def is_convex(self) -> bool:
        """Whether the power is in [1, 2]: then ``(2 - p) A - (1 - p) B >= 0``. Local."""
        return 1.0 <= self.power <= 2.0

    def in_range(self, y: Vector) -> NDArray[np.bool_]:
        """Return which labels are above zero, or zero for a power below 2, (rows,). Local."""
        return np.asarray(y >= 0 if self.power < 2 else y > 0)

    def parts(self, z: Vector, y: Vector) -> tuple[Vector, Vector]:
        """Return A and B at each row. Local."""
        return _exp((2.0 - self.power) * z), y * _exp((1.0 - self.power) * z)

    def best_constant(self, mean: float) -> float:
        """Return the logarithm of the mean, the optimum of a model without features. Local."""
        return float(np.log(mean))

    def shift(self, slope: float, curvature: float) -> float:
        """Return ``log(B / A)``, which flattens the sum at once: a shift t multiplies ``A / B`` by exp(t).

        Local. Infinite where a sum vanishes or was held.
        """
        b = curvature - (2.0 - self.power) * slope
        a = b + slope
        inside = 0 < a < _HELD and 0 < b < _HELD
        return float(np.log(b) - np.log(a)) if inside else float("inf")


@dataclass(frozen=True)
class Poisson(_LogLink):
    """``loss = exp(z) - y z``, ``slope = exp(z) - y``, ``curvature = exp(z)``; y >= 0."""

    name: str = "poisson"
    power = 1.0

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        mean = _exp(z)
        return Terms(mean - y * z, mean - y, mean)

    def least(self, y: Vector) -> Vector:
        """Return ``y - y log y``, (rows,). Local."""
        return np.asarray(y - y * np.log(np.where(y > 0, y, 1.0)))


@dataclass(frozen=True)
class Gamma(_LogLink):
    """``loss = z + y exp(-z)``, ``slope = 1 - y exp(-z)``, ``curvature = y exp(-z)``; y > 0."""

    name: str = "gamma"
    power = 2.0

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        ratio = y * _exp(-z)
        return Terms(z + ratio, 1.0 - ratio, ratio)

    def least(self, y: Vector) -> Vector:
        """Return ``log y + 1``, (rows,). Local."""
        return np.asarray(np.log(y) + 1.0)


@dataclass(frozen=True)
class Tweedie(_LogLink):
    """For a power p above 0, not 1 or 2: ``loss = exp((2 - p) z) / (2 - p) - y exp((1 - p) z) / (1 - p)``.

    ``slope = A - B`` and ``curvature = (2 - p) A - (1 - p) B`` with ``A = exp((2 - p) z)`` and
    ``B = y exp((1 - p) z)``; y >= 0 for p < 2, else y > 0. Convex for 1 < p < 2 alone.
    """

    power: float = 1.5
    name: str = "tweedie"

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        first, second = 2.0 - self.power, 1.0 - self.power
        a, b = _exp(first * z), y * _exp(second * z)
        return Terms(a / first - b / second, a - b, first * a - second * b)

    def least(self, y: Vector) -> Vector:
        """Return ``-y^(2 - p) / ((1 - p) (2 - p))``, (rows,). Local."""
        return np.asarray(-np.power(y, 2.0 - self.power) / ((1.0 - self.power) * (2.0 - self.power)))
