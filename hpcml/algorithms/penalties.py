"""The penalty on the weights, replicated on every rank and added after the reduction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Penalty", "make_penalty"]

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Penalty:
    """``penalty(w) = sum_j l1_j |w_j| + 1/2 sum_j l2_j w_j^2`` where ``lower <= w <= upper``. All Local.

    None, ridge, lasso, elastic net and boxes are values of it. The smooth part is that of l2; the rest is
    met by `prox`.

    Parameters
    ----------
    l2, l1 : (n_features,) array
        Strengths on the mean loss, not negative.
    lower, upper : (n_features,) array
        Bounds on the weights, maybe infinite; zero lies between them.
    """

    l2: Vector
    l1: Vector
    lower: Vector
    upper: Vector

    def with_free(self, n: int) -> Penalty:
        """Return the penalty with n weights more that it leaves free."""
        free = np.zeros(n)
        return Penalty(
            np.append(self.l2, free),
            np.append(self.l1, free),
            np.append(self.lower, free - np.inf),
            np.append(self.upper, free + np.inf),
        )

    @cached_property
    def is_smooth(self) -> bool:
        """Whether it has a gradient everywhere."""
        return not self.l1.any() and bool(np.isneginf(self.lower).all() and np.isposinf(self.upper).all())

    @cached_property
    def has_gap(self) -> bool:
        """Whether a duality gap vanishes at the optimum: each weight alone is held by the penalty."""
        is_box = np.isfinite(self.lower) & np.isfinite(self.upper)
        return bool(self.l2.size and ((self.l2 > 0) | (self.l1 > 0) | is_box).all())

    @cached_property
    def is_ridge(self) -> bool:
        """Whether it is smooth with an l2 strength on each weight: its conjugate is ``slope^2 / 2 l2``."""
        return self.is_smooth and bool((self.l2 > 0).all())

    def value(self, w: Vector) -> float:
        """Return the penalty of w, (n_features,); infinite outside the bounds."""
        return 0.5 * float(np.add.reduce(self.l2 * w * w)) + self.rough_value(w)

    def rough_value(self, w: Vector) -> float:
        """Return the part that has no gradient."""
        if self.is_smooth:
            return 0.0
        if not ((w >= self.lower) & (w <= self.upper)).all():
            return float("inf")
        return float(np.sum(self.l1 * np.abs(w)))

    def secant(self, w: Vector, direction: Vector) -> Vector:
        """Return s with ``s . direction = r(w + direction) - r(w)`` for the rough part r, in bounds."""
        if self.is_smooth:
            return np.zeros_like(w)
        there = w + direction
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = (np.abs(there) - np.abs(w)) / direction
        s = np.where(w * there > 0, np.sign(w), crossing)
        return np.where((self.l1 > 0) & (direction != 0), self.l1 * s, 0.0)

    def gradient(self, w: Vector) -> Vector:
        """Return the gradient of the smooth part, (n_features,)."""
        return self.l2 * w

    def prox(self, w: Vector, step: float | Vector) -> Vector:
        """Return ``argmin_v 1/2 ||v - w||^2 + step r(v)`` for the rough part r, (n_features,).

        ``sign(w) max(|w| - step l1, 0)``, clipped to the bounds (Parikh and Boyd, "Proximal Algorithms",
        2014, section 6.5, doi:10.1561/2400000003).
        """
        shrunk = np.sign(w) * np.maximum(np.abs(w) - step * self.l1, 0.0)
        return np.asarray(np.clip(shrunk, self.lower, self.upper))

    def residual(self, w: Vector, gradient: Vector) -> Vector:
        """Return the smallest element of ``gradient + subdifferential of r(w)``, (n_features,)."""
        if self.is_smooth:
            return gradient
        least = np.where(w > 0, self.l1, -self.l1)
        most = np.where(w < 0, -self.l1, self.l1)
        least = np.where(w <= self.lower, -np.inf, least)
        most = np.where(w >= self.upper, np.inf, most)
        return gradient + np.clip(-gradient, least, most)

    def feasible_share(self, slope: Vector) -> float:
        """Return the largest t in [0, 1] for which the conjugate of the penalty is finite at ``t slope``."""
        if self.is_ridge:
            return 1.0
        unbounded = np.where(slope > 0, np.isposinf(self.upper), np.isneginf(self.lower)) & (self.l2 == 0)
        over = unbounded & (np.abs(slope) > self.l1)
        return float(np.min(self.l1[over] / np.abs(slope[over]), initial=1.0))

    def fenchel_gap(self, w: Vector, slope: Vector) -> float:
        """Return ``penalty(w) + penalty*(slope) - slope . w``, not negative, for a feasible slope.

        With v the maximiser of ``slope v - penalty(v)`` it is ``l2 / 2 (w - v)^2`` and what the rough part
        rises above its tangent at v: no difference of large numbers.
        """
        if self.is_ridge:
            return 0.5 * float(np.add.reduce(np.square(self.l2 * w - slope) / self.l2))
        shrunk = np.sign(slope) * np.maximum(np.abs(slope) - self.l1, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(shrunk == 0, 0.0, shrunk / self.l2)
        v = np.clip(far, self.lower, self.upper)
        v[np.isinf(v)] = 0.0  # a slope at the end of what is feasible, give or take rounding
        move = w - v
        rise = self.l1 * (np.abs(w) - np.abs(v)) - (slope - self.l2 * v) * move
        return float(np.sum(0.5 * self.l2 * move * move + np.maximum(rise, 0.0)))


def make_penalty(
    n_features: int,
    l2: ArrayLike = 0.0,
    l1: ArrayLike = 0.0,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
) -> Penalty:
    """Return a penalty from numbers or arrays, one for each feature. Local."""
    parts = (np.broadcast_to(np.asarray(part, np.float64), (n_features,)) for part in (l2, l1, lower, upper))
    return Penalty(*parts)
