"""Loss and penalty over a data set: the function that solvers minimise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import n_sums, raw_prediction, shard_sums
from hpcml.algorithms.losses import Loss
from hpcml.algorithms.losses.base import Intercept
from hpcml.algorithms.penalties import Penalty
from hpcml.algorithms.reduction import Ballot, reduce_blocks
from hpcml.algorithms.scaling import Scaling
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset

__all__ = ["AT_ZERO", "Line", "MeanLoss", "Objective", "Point", "Start"]

Vector = NDArray[np.float64]


class Point(NamedTuple):
    """The objective at one w, the same on every rank.

    Attributes
    ----------
    w : (n_parameters,) array
        Weights of the scaled features, then the intercept where there is one: output by output for a loss
        of several, then the intercepts.
    value : float
    gradient : (n_parameters,) array
    hessian : (n, n) array
        Of the columns that were asked for, then the intercept; (0, 0) where none were.
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
        if not isfinite(self.value) or not np.isfinite(self.gradient).all():
            return False
        return not self.hessian.size or bool(np.isfinite(self.hessian).all())


class MeanLoss(NamedTuple):
    """What some rows give to the mean loss: value, gradient and Hessian as in Point, without the penalty."""

    value: float
    gradient: Vector
    hessian: Vector


class Start(NamedTuple):
    """Where a fit starts, with all weights zero, and what its certificate is measured against.

    Attributes
    ----------
    intercept : float
    least : float
        The mean of the loss below which nothing can come, as far as the labels say; the reference is F at
        the start above it.
    flat : float
        Size of a gradient that is rounding.
    curvature : float
        The largest of the loss, or that at the start where there is no largest.
    """

    intercept: float = 0.0
    least: float = 0.0
    flat: float = 0.0
    curvature: float = 1.0


AT_ZERO = Start()


@dataclass(frozen=True)
class Objective:
    """``F(w, b) = (1 / sum s) sum_i s_i loss(y_i, u_i . w + b + o_i) + penalty(w)``.

    u are the scaled features, s the weights of the rows, o their offsets. With r = slope and h = curvature of
    the loss at each row and the strengths l2 of the penalty, ``dF/dw = (1 / sum s) sum s r u + l2 w``,
    ``dF/db = (1 / sum s) sum s r`` and ``H = (1 / sum s) sum s h [u, 1][u, 1]^T + diag(l2, 0)``: gradient and
    Hessian are those of the smooth part. The sums are taken over the raw features x and scaled afterwards.

    Parameters
    ----------
    data : Dataset
    loss : Loss
        With k outputs, w is (k, n_features) in what follows, and b, z and r have k numbers too.
    penalty : Penalty
        On w alone, all ``k n_features`` of it; intercepts are never penalised.
    scaling : Scaling
    total_weight : float
        sum s over all ranks.
    fit_intercept : bool
    ballot : Ballot
        Votes that ride on every evaluation.
    start : Start
    """

    data: Dataset
    loss: Loss
    penalty: Penalty
    scaling: Scaling
    total_weight: float
    fit_intercept: bool = True
    ballot: Ballot = field(default_factory=Ballot)
    start: Start = AT_ZERO

    @cached_property
    def n_parameters(self) -> int:
        """Length of w, the intercept included. Local."""
        return self.n_weights + self.loss.n_outputs * int(self.fit_intercept)

    @cached_property
    def n_weights(self) -> int:
        """Length of w without intercepts. Local."""
        return self.loss.n_outputs * self.data.n_features

    @cached_property
    def whole_penalty(self) -> Penalty:
        """The penalty of all parameters in w, which leaves intercepts free. Local."""
        return self.penalty.with_free(self.n_parameters - self.n_weights)

    def split(self, w: Vector) -> tuple[Vector, Intercept]:
        """Return the weights of the scaled features, (n_weights,), and the intercept, or those. Local."""
        n, k = self.n_weights, self.loss.n_outputs
        last = w[n:] if self.fit_intercept else np.zeros(k)
        return w[:n], float(last[0]) if k == 1 else last

    def to_raw(self, w: Vector) -> tuple[Vector, Intercept]:
        """Return coefficients and intercept on the original features. Local.

        (n_features,) and a number, or with k outputs (k, n_features) and (k,).
        """
        weights, intercept = self.split(w)
        k = self.loss.n_outputs
        return self.scaling.to_raw(weights if k == 1 else weights.reshape(k, -1), intercept)

    def from_raw(self, coef: Vector, intercept: Intercept) -> Vector:
        """Return the w of coefficients and intercept on the original features. Local."""
        weights, last = self.scaling.from_raw(coef, intercept)
        return self._extended(weights, last)

    @property
    def first_w(self) -> Vector:
        """Where a fit starts, (n_parameters,). Local."""
        return self._extended(np.zeros(self.n_weights), np.full(self.loss.n_outputs, self.start.intercept))

    @property
    def all_columns(self) -> NDArray[np.int64]:
        """Every column of X, for the whole Hessian. Local."""
        return np.arange(self.data.n_features)

    def evaluate(
        self,
        w: Vector,
        *,
        columns: NDArray[np.int64] | None = None,
        window: NDArray[np.int64] | None = None,
    ) -> Point:
        """Return value, gradient and the Hessian of some columns, in rising order, at w.

        Collective, one pass and one message (two without the `window` of an earlier point, or with another
        number of columns).
        """
        coef, intercept = self.to_raw(w)

        def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
            return shard_sums(block, self.loss, coef, intercept, columns)

        n = self.n_sums(columns)
        known, rest = _fitting(window, n, columns)
        reduced = reduce_blocks(self.data, statistics, n, window=known, ballot=self.ballot)
        loss = self.mean_loss(reduced.total, columns)
        return self.penalised(
            w, loss, columns, np.append(reduced.window, rest) if rest.size else reduced.window
        )

    def n_sums(self, columns: NDArray[np.int64] | None = None) -> int:
        """Return the number of sums that a pass brings, with the Hessian of some columns. Local."""
        k = self.loss.n_outputs
        return n_sums(self.data.n_features, columns) if k == 1 else 1 + k + self.n_weights

    def _extended(self, weights: Vector, last: Intercept) -> Vector:
        w = np.empty(self.n_parameters)
        w[: self.n_weights] = weights.ravel()
        if self.fit_intercept:
            w[self.n_weights :] = last
        return w

    def mean_loss(self, sums: Vector, columns: NDArray[np.int64] | None) -> MeanLoss:
        """Return what the sums of `shard_sums` over some rows give to the mean loss of all. Local."""
        sums = sums / self.total_weight
        matrix = np.zeros((0, 0)) if columns is None else self._hessian(sums[self.n_sums() :], columns)
        return MeanLoss(float(sums[0]), self.scaled(sums[1 : self.n_sums()]), matrix)

    def scaled(self, sums: Vector) -> Vector:
        """Return the derivatives in w from those in b and in the weights of raw features. Local."""
        k = self.loss.n_outputs
        at_intercept = sums[:k]
        raw = sums[k:].reshape(k, -1) - self.scaling.mean * at_intercept[:, None]
        return self._extended(raw / self.scaling.scale, at_intercept)

    def penalised(
        self, w: Vector, loss: MeanLoss, columns: NDArray[np.int64] | None, window: NDArray[np.int64]
    ) -> Point:
        """Return the point at w, from the loss of all rows there. Local."""
        gradient, hessian = loss.gradient + self.whole_penalty.gradient(w), loss.hessian
        if columns is not None:
            hessian, on_diagonal = hessian.copy(), np.arange(columns.size)
            hessian[on_diagonal, on_diagonal] += self.penalty.l2[columns]
        return Point(w, loss.value + self.penalty.value(self.split(w)[0]), gradient, hessian, window)

    def _hessian(self, sums: Vector, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        d = columns.size
        total, linear = sums[0], sums[1 : 1 + d]
        raw = np.zeros((d, d))
        raw[np.triu_indices(d)] = sums[1 + d :]
        raw = raw + np.triu(raw, 1).T
        mean, scale = (part[columns] for part in self.scaling)
        cross = np.outer(mean, linear)
        centred = raw - cross - cross.T + total * np.outer(mean, mean)
        n = d + int(self.fit_intercept)
        H = np.zeros((n, n))
        H[:d, :d] = centred / np.outer(scale, scale)
        if self.fit_intercept:
            H[d, :d] = H[:d, d] = (linear - mean * total) / scale
            H[d, d] = total
        return H

    def curvature(self, block: Block, z: Vector) -> Vector:
        """Return what products of the Hessian need of a block's rows, at their raw predictions. Local.

        ``s h``, (rows,); or the probabilities of a softmax, (rows, k).
        """
        h = self.loss.terms(z, _labels(block)).curvature
        return h if h.ndim == 2 else _weighted(block, h)

    def line(self, w: Vector, direction: Vector) -> Line:
        """Return the objective along ``w + t direction``: one pass, no message. Local."""
        base, slope = self.to_raw(w), self.to_raw(direction)
        k, margins = self.loss.n_outputs, []
        for block in self.data.blocks():
            both = np.empty((block.n_rows, 2, k))
            both[:, 0] = raw_prediction(block, *base).reshape(-1, k)
            if np.any(slope[0]):
                both[:, 1] = raw_prediction(block.without_offset(), *slope).reshape(-1, k)
            else:  # the intercept alone: X is not needed
                both[:, 1] = slope[1]
            margins.append(_margins(block, both))
        return Line(self, w, direction, tuple(margins))


@dataclass(frozen=True)
class Line:
    """The objective on a line, from cached margins: no pass over X.

    z = X w and q = X p are kept, (rows,) each; then ``F(w + t p)`` needs ``z + t q`` alone: the loss of rows
    of two columns, z and q, which the block of a margin has in the place of X. For several outputs z and q
    are (rows, k), and the block has no columns.
    """

    objective: Objective
    w: Vector
    direction: Vector
    margins: tuple[tuple[Block, Vector, Vector], ...]

    def values(self, steps: Vector) -> Vector:
        """Return F at each step, (n_steps,). Collective, two messages."""

        def sums(margin: tuple[Block, Vector, Vector], t: float) -> Vector:
            block, z, q = margin
            if z.ndim == 1:
                return self._sums(block, t)[:, 0]
            losses = self.objective.loss.terms(z + t * q, _labels(block)).value
            return block.shard_sums(_weighted(block, losses))

        partials = [np.stack([sums(margin, t) for t in steps], axis=1) for margin in self.margins]
        losses = self._reduced(partials, len(steps)) / self.objective.total_weight
        points = [self.objective.split(self.w + t * self.direction)[0] for t in steps]
        return np.asarray(losses + [self.objective.penalty.value(w) for w in points], np.float64)

    def derivatives(self, step: float) -> tuple[float, float]:
        """Return slope and curvature of the mean loss at a step. Collective, two messages.

        For one output.
        """
        # The gradient's element of q, and the Hessian's of q and q.
        partials = [self._sums(block, step, np.arange(2))[:, [3, -1]] for block, _, _ in self.margins]
        slope, curvature = self._reduced(partials, 2) / self.objective.total_weight
        return float(slope), float(curvature)

    def _sums(self, block: Block, step: float, columns: NDArray[np.int64] | None = None) -> Vector:
        along = shard_sums(block, self.objective.loss, np.array([1.0, step]), 0.0, columns)
        return np.concatenate([np.zeros((0, n_sums(2, columns))), *along])

    def _reduced(self, partials: list[Vector], n: int) -> Vector:
        return reduce_partials(self.objective.data.comm, lambda: partials, n).total


def _margins(block: Block, both: Vector) -> tuple[Block, Vector, Vector]:
    """Return a block and the z and q of its rows, from both, (rows, 2, outputs)."""
    if both.shape[2] > 1:
        return block.without_rows(), both[:, 0], both[:, 1]
    pair = both[:, :, 0]
    return replace(block, X=pair, offset=None), pair[:, 0], pair[:, 1]


def _fitting(
    window: NDArray[np.int64] | None, n: int, columns: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the window of n sums and what it has beyond: that of a Hessian waits for the next one."""
    if window is None or (window.size != n and (columns is not None or window.size < n)):
        return None, np.zeros(0, np.int64)
    return window[:n], window[n:]


def _labels(block: Block) -> Vector:
    assert block.y is not None, "an objective needs labels"
    return block.y


def _weighted(block: Block, values: Vector) -> Vector:
    return values if block.weight is None else values * block.weight
