"""What every loss gives: one number a row, with its slope and curvature in the raw prediction z."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Formula", "IdentityLink", "Intercept", "Loss", "Terms", "Vector"]

Vector = NDArray[np.float64]
Intercept: TypeAlias = float | Vector
"""One number, or one for each output."""


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
    """A function of the raw prediction and the label. Local; knows no X and no rank."""

    @property
    def name(self) -> str:
        """The name in results and errors."""

    @property
    def n_outputs(self) -> int:
        """How many raw predictions a row has: above 1, z and slope are (rows, n_outputs)."""

    @property
    def max_curvature(self) -> float:
        """The largest second derivative in z; infinite where there is none."""

    @property
    def is_convex(self) -> bool:
        """Whether it is convex in z for every label, so that a point can be proved optimal."""

    @property
    def has_log_link(self) -> bool:
        """Whether the mean is ``exp(z)``, with labels that have a least value; else it is z."""

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row."""

    def in_range(self, y: Vector) -> NDArray[np.bool_]:
        """Return which labels the loss is defined for, (rows,)."""

    def least(self, y: Vector) -> Vector:
        """Return the smallest value over all z at each row, or 0 where nobody asks, (rows,)."""

    def parts(self, z: Vector, y: Vector) -> tuple[Vector, Vector]:
        """Return A > 0 and B of a slope ``A - B``, (rows,) each.

        The constant that is best added to every z follows from ``mean B / mean A``: its logarithm for a log
        link, that number itself for the squared loss.
        """

    def best_constant(self, mean: float) -> float:
        """Return the z at which a fit starts, from the mean of y."""

    def shift(self, slope: float, curvature: float) -> float:
        """Return what to add to every z so that a sum with this slope and curvature is flat.

        For a curvature above zero; exact or Newton's step.
        """


class IdentityLink:
    """What losses have in common that take any label and start at z = 0."""

    is_convex = True
    has_log_link = False

    @property
    def n_outputs(self) -> int:
        """One raw prediction a row."""
        return 1

    def in_range(self, y: Vector) -> NDArray[np.bool_]:
        """Return that every label will do, (rows,). Local."""
        return np.ones(y.shape, bool)

    def least(self, y: Vector) -> Vector:
        """Return zeros, (rows,). Local."""
        return np.zeros_like(y)

    def parts(self, z: Vector, y: Vector) -> tuple[Vector, Vector]:
        """Return 1 and ``y - z``, which are the squared loss's. Local."""
        return np.ones_like(y), y - z

    def best_constant(self, mean: float) -> float:
        """Return 0: the start is no model at all. Local."""
        return 0.0

    def shift(self, slope: float, curvature: float) -> float:
        """Return Newton's step. Local."""
        return -slope / curvature
