"""Loss and penalty over a data set: the function that solvers minimise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import n_sums, raw_prediction, shard_sums
from hpcml.algorithms.losses import Loss
from hpcml.algorithms.penalties import L2
from hpcml.algorithms.reduction import Ballot, reduce_blocks
from hpcml.algorithms.scaling import Scaling
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset

__all__ = ["Line", "Objective", "Point"]

Vector = NDArray[np.float64]


class Point(NamedTuple):
    """The objective at one w, the same on every rank.

    Attributes
    ----------
    w : (n_parameters,) array
        Weights of the scaled features, then the intercept where there is one.
    value : float
    gradient : (n_parameters,) array
    hessian : (n_parameters, n_parameters) array, or (0, 0) where it was not asked for
    window : array of int64
        Of the reduction that gave these numbers, for the next one.
    """

    w: Vector
    value: float
    gradient: Vector
    hessian: Vector
    window: NDArray[np.int64]

    @property
    def is_finite(self) -> bool:
        """Whether value, gradient and Hessian are numbers. Local."""
        return all(bool(np.isfinite(part).all()) for part in (self.value, self.gradient, self.hessian))


@dataclass(frozen=True)
class Objective:
    """``F(w, b) = (1 / sum s) sum_i s_i loss(y_i, u_i . w + b) + 1/2 sum_j alpha_j w_j^2``.

    u are the scaled features, s the weights of the rows. With r = slope and h = curvature of the loss
    at each row, ``dF/dw = (1 / sum s) sum s r u + alpha w``, ``dF/db = (1 / sum s) sum s r`` and
    ``H = (1 / sum s) sum s h [u, 1][u, 1]^T + diag(alpha, 0)``. The sums are taken over the raw features x
    and scaled afterwards.

    Parameters
    ----------
    data : Dataset
    loss : Loss
    penalty : L2
        On w alone; the intercept is never penalised.
    scaling : Scaling
    total_weight : float
        sum s over all ranks.
    fit_intercept : bool
    ballot : Ballot
        Votes that ride on every evaluation.
    """

    data: Dataset
    loss: Loss
    penalty: L2
    scaling: Scaling
    total_weight: float
    fit_intercept: bool = True
    ballot: Ballot = field(default_factory=Ballot)

    @property
    def n_parameters(self) -> int:
        """Length of w, the intercept included. Local."""
        return self.data.n_features + int(self.fit_intercept)

    def split(self, w: Vector) -> tuple[Vector, float]:
        """Return the weights of the scaled features and the intercept. Local."""
        d = self.data.n_features
        return w[:d], float(w[d]) if self.fit_intercept else 0.0

    def to_raw(self, w: Vector) -> tuple[Vector, float]:
        """Return coefficients and intercept on the original features. Local."""
        return self.scaling.to_raw(*self.split(w))

    def evaluate(self, w: Vector, *, hessian: bool = False, window: NDArray[np.int64] | None = None) -> Point:
        """Return value, gradient and, if asked, Hessian at w.

        Collective, one pass and one message (two without the `window` of an earlier point of the same kind).
        """
        d = self.data.n_features
        coef, intercept = self.to_raw(w)

        def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
            return shard_sums(block, self.loss, coef, intercept, hessian)

        n = n_sums(d, hessian)
        reduced = reduce_blocks(self.data, statistics, n, window=window, ballot=self.ballot)
        sums = reduced.total / self.total_weight
        weights, _ = self.split(w)
        value = float(sums[0]) + self.penalty.value(weights)
        slope = self._scaled(sums[2 : 2 + d], sums[1]) + self.penalty.gradient(weights)
        gradient = self._extended(slope, sums[1])
        matrix = self._hessian(sums[2 + d :]) if hessian else np.zeros((0, 0))
        return Point(w, value, gradient, matrix, reduced.window)

    def _scaled(self, sums: Vector, total: float | Vector) -> Vector:
        """Turn ``sum a_i x_i`` into ``sum a_i u_i``, with `total` = sum a_i."""
        return (sums - self.scaling.mean * total) / self.scaling.scale

    def _extended(self, vector: Vector, last: float) -> Vector:
        return np.append(vector, last) if self.fit_intercept else vector

    def _hessian(self, sums: Vector) -> NDArray[np.float64]:
        d = self.data.n_features
        total, linear = sums[0], sums[1 : 1 + d]
        raw = np.zeros((d, d))
        raw[np.triu_indices(d)] = sums[1 + d :]
        raw = raw + np.triu(raw, 1).T
        mean, scale = self.scaling
        cross = np.outer(mean, linear)
        centred = raw - cross - cross.T + total * np.outer(mean, mean)
        H = np.zeros((self.n_parameters, self.n_parameters))
        H[:d, :d] = centred / np.outer(scale, scale) + np.diag(self.penalty.alpha)
        if self.fit_intercept:
            H[d, :d] = H[:d, d] = self._scaled(linear, total)
            H[d, d] = total
        return H

    def line(self, w: Vector, direction: Vector) -> Line:
        """Return the objective along ``w + t direction``: one pass, no message. Local."""
        lines = []
        base, slope = self.to_raw(w), self.to_raw(direction)
        for block in self.data.blocks():
            z, q = raw_prediction(block, *base), raw_prediction(block, *slope)
            lines.append((block, z, q))
        return Line(self, w, direction, tuple((block.without_rows(), z, q) for block, z, q in lines))


@dataclass(frozen=True)
class Line:
    """The objective on a line, from cached margins: no pass over X.

    z = X w and q = X p are kept, (rows,) each; then ``F(w + t p)`` needs ``z + t q`` alone.
    """

    objective: Objective
    w: Vector
    direction: Vector
    margins: tuple[tuple[Block, Vector, Vector], ...]

    def values(self, steps: Vector) -> Vector:
        """Return F at each step, (n_steps,). Collective, two messages."""

        def sums(margin: tuple[Block, Vector, Vector], t: float) -> Vector:
            block, z, q = margin
            losses = self.objective.loss.terms(z + t * q, _labels(block)).value
            return block.shard_sums(_weighted(block, losses))

        partials = [np.stack([sums(margin, t) for t in steps], axis=1) for margin in self.margins]
        losses = self._reduced(partials, len(steps)) / self.objective.total_weight
        points = [self.objective.split(self.w + t * self.direction)[0] for t in steps]
        return np.asarray(losses + [self.objective.penalty.value(w) for w in points], np.float64)

    def derivatives(self, step: float) -> tuple[float, float]:
        """Return slope and curvature of the mean loss at a step. Collective, two messages."""
        partials = []
        for block, z, q in self.margins:
            terms = self.objective.loss.terms(z + step * q, _labels(block))
            first, second = _weighted(block, terms.slope * q), _weighted(block, terms.curvature * q * q)
            partials.append(np.stack([block.shard_sums(first), block.shard_sums(second)], axis=1))
        slope, curvature = self._reduced(partials, 2) / self.objective.total_weight
        return float(slope), float(curvature)

    def _reduced(self, partials: list[Vector], n: int) -> Vector:
        return reduce_partials(self.objective.data.comm, lambda: partials, n).total


def _labels(block: Block) -> Vector:
    assert block.y is not None, "an objective needs labels"
    return block.y


def _weighted(block: Block, values: Vector) -> Vector:
    return values if block.weight is None else values * block.weight
