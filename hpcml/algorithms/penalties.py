"""Penalties on the weights, replicated on every rank and added after the reduction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["L2"]


@dataclass(frozen=True)
class L2:
    """``penalty(w) = 1/2 sum_j alpha_j w_j^2``.

    Parameters
    ----------
    alpha : (n_features,) array
        Strengths on the mean loss: all positive, or all zero for no penalty.
    """

    alpha: NDArray[np.float64]

    @property
    def is_strong(self) -> bool:
        """Whether it makes the objective strongly convex. Local."""
        return bool(self.alpha.size and self.alpha.min() > 0)

    def value(self, w: NDArray[np.float64]) -> float:
        """Return the penalty of w, (n_features,). Local."""
        return 0.5 * float(np.sum(self.alpha * w * w))

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return its gradient, (n_features,). Local."""
        return self.alpha * w
