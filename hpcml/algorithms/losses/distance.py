"""Losses of the distance between z and y."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcml.algorithms.losses.base import Formula, IdentityLink, Terms, Vector

__all__ = ["Huber", "JointHuber", "Squared"]


@dataclass(frozen=True)
class Squared(IdentityLink):
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
class Huber(IdentityLink):
    """With r = z - y: ``loss = r^2 / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``.

    ``slope`` is r held within +-delta, ``curvature`` 1 inside and 0 outside.

    References
    ----------
    Huber 1964, doi:10.1214/aoms/1177703732.
    """

    delta: float = 1.35
    name: str = "huber"
    max_curvature: float = 1.0

    @property
    def formula(self) -> Formula:
        """Kind and parameters for the compiled kernels."""
        return Formula("huber", self.delta)

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        residual = z - y
        slope = np.clip(residual, -self.delta, self.delta)
        # slope (r - slope / 2) is both cases, and does not square what is large.
        value = slope * (residual - 0.5 * slope)
        return Terms(value, slope, (np.abs(residual) <= self.delta).astype(np.float64))


@dataclass(frozen=True)
class JointHuber(Huber):
    """Huber's loss of ``z / sigma`` for a scale sigma that is fitted too; here at a scale of one.

    Its curvature in the unit of y, ``1 / sigma``, has no bound.
    """

    name: str = "huber with a joint scale"
    max_curvature: float = np.inf
