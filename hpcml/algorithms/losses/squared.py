"""The loss of least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcml.algorithms.losses.base import IdentityLink, Terms, Vector

__all__ = ["Squared"]


@dataclass(frozen=True)
class Squared(IdentityLink):
    """``loss = (z - y)^2 / 2``, ``slope = z - y``, ``curvature = 1``."""

    name: str = "squared"
    max_curvature: float = 1.0

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value, slope and curvature at each row. Local."""
        residual = z - y
        return Terms(0.5 * np.square(residual), residual, np.ones_like(z))
