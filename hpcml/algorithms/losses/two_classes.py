"""Losses of classifiers of two classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcml.algorithms.losses.base import Formula, IdentityLink, Terms, Vector

__all__ = ["Logistic", "SquaredHinge"]


@dataclass(frozen=True)
class Logistic(IdentityLink):
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


@dataclass(frozen=True)
class SquaredHinge(IdentityLink):
    """With t = 1 where y equals `positive` and -1 elsewhere: ``loss = max(0, 1 - t z)^2``.

    ``slope = -2 t max(0, 1 - t z)``; ``curvature`` is 2 where t z < 1, else 0. There is no half, as in
    LIBLINEAR (Fan et al. 2008, JMLR 9).
    """

    positive: float = 1.0
    name: str = "squared hinge"
    max_curvature: float = 2.0

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""
        return Formula("squared_hinge", self.positive)

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        sign = np.where(y == self.positive, 1.0, -1.0)
        missing = np.maximum(1.0 - sign * z, 0.0)
        return Terms(np.square(missing), -2.0 * sign * missing, np.where(missing > 0, 2.0, 0.0))
