"""The loss of classifiers of several classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcml.algorithms.losses.base import Formula, IdentityLink, Terms, Vector

__all__ = ["Softmax"]


@dataclass(frozen=True)
class Softmax(IdentityLink):
    """Multinomial logistic loss: z has a number for each class, and y is one of `classes`.

    ``loss = log sum_c exp(z_c) - z_y``, ``slope = p - e_y`` with ``p = exp(z) / sum_c exp(z_c)`` and the unit
    vector e_y of the row's class. In the place of the curvature stands p, which makes it:
    ``diag(p) - p p^T``. The largest z is taken off first, so that nothing overflows.

    A number added to all z of a row changes nothing: intercepts are unique up to one number, and weights
    without a penalty up to one vector.
    """

    classes: tuple[float, ...]
    name: str = "softmax"
    max_curvature: float = 0.25

    @property
    def n_outputs(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def formula(self) -> Formula:
        """A name: it has kernels of its own."""
        return Formula("softmax")

    def terms(self, z: Vector, y: Vector) -> Terms:
        """Return value (rows,), slope and probabilities (rows, n_classes). Local."""
        is_own = y[:, None] == np.array(self.classes)
        below = z - z.max(axis=1, keepdims=True)
        powers = np.exp(below)
        others = np.where(is_own, 0.0, powers).sum(axis=1)
        own = np.where(is_own, below, 0.0).sum(axis=1)
        whole = powers.sum(axis=1)
        # Where the row's class is the likeliest, the sum of the others is all that the logarithm is of.
        value = np.log1p(np.where(own == 0.0, others, whole - 1.0)) - own
        p = powers / whole[:, None]
        return Terms(value, np.where(is_own, -(others / whole)[:, None], p), p)
