"""Losses: one number a row, with its slope and curvature in the raw prediction z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Formula", "Logistic", "Loss", "Squared", "Terms"]

Vector = NDArray[np.float64]


class Terms(NamedTuple):
    """Loss, first and second derivative with respect to z, each (rows,)."""

    value: Vector
    slope: Vector
    curvature: Vector


class Formula(NamedTuple):
    """What the compiled kernels know a loss by (kernels/losses.h).

    Attributes
    ----------
    kind : {"squared", "logistic", "poisson", "gamma", "tweedie", "huber", "squared_hinge"}
    a, b : float
        What the formula leaves open: the positive class, a power, a threshold.
    """

    kind: str
    a: float = 0.0
    b: float = 0.0


class Loss(Protocol):
    """A convex function of the raw prediction. Local; knows no X and no rank."""

    @property
    def name(self) -> str:
        """The name in results and errors."""

    @property
    def max_curvature(self) -> float:
        """The largest second derivative in z."""

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row."""


@dataclass(frozen=True)
class Squared:
    """``loss = (z - y)^2 / 2``, ``slope = z - y``, ``curvature = 1``."""

    name: str = "squared"
    max_curvature: float = 1.0

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""
        return Formula("squared")

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        residual = z - y
        return Terms(0.5 * np.square(residual), residual, np.ones_like(z))


@dataclass(frozen=True)
class Logistic:
    """Binary logistic loss; with t = 1 where y equals `positive` and 0 elsewhere.

    ``loss = log(1 + exp(z)) - t z``, ``slope = p - t`` and ``curvature = p (1 - p)`` with
    ``p = 1 / (1 + exp(-z))``. All from ``exp(-|z|)``, which cannot overflow (Mächler, "Accurately
    computing log(1 - exp(-|a|))", 2012).
    """

    positive: float = 1.0
    name: str = "logistic"
    max_curvature: float = 0.25

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""
        return Formula("logistic", self.positive)

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        is_positive = y == self.positive
        small = np.exp(-np.abs(z))
        inverse = 1.0 / (1.0 + small)
        # The loss of the true class: log(1 + exp(-m)) for the margin m = +-z.
        margin = np.where(is_positive, z, -z)
        value = np.log1p(small) + np.maximum(-margin, 0.0)
        wrong = np.where(margin > 0, small * inverse, inverse)
        return Terms(value, np.where(is_positive, -wrong, wrong), small * inverse * inverse)
