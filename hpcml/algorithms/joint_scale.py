"""Huber's regression with the scale of the residuals found along with the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.losses import Huber
from hpcml.algorithms.objective import Line, MeanLoss, Objective, Point, Start, Vector
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset

__all__ = ["JointScale", "joint_start", "threshold_at"]

_LEAST = 2.0**-26
"""The least scale, as a share of the labels' spread: below it residuals are taken to vanish."""
_MOST_STEPS = 200
Residuals = Callable[[int], Iterator[tuple[Block, Vector]]]


@dataclass(frozen=True)
class JointScale(Objective):
    """``F(w, b) = min over sigma of (1 / sum s) sum_i s_i (sigma + H(r_i / sigma) sigma) / 2 + penalty(w)``.

    r are the residuals; ``H(z) = z^2`` up to ``|z| = epsilon``, then ``2 epsilon |z| - epsilon^2``: half of
    scikit-learn's function. It is jointly convex in w, b and sigma, so F is convex. At the best sigma
    ``(1 / sum s) sum s min((r / sigma)^2, epsilon^2) = 1``, and the gradient of F is that of ``Huber(epsilon
    sigma)`` over sigma. So is the Hessian but for what a sigma that moves along takes from it, which is left
    out: little where errors are symmetric, and a step of Newton's method goes downhill all the same.

    References
    ----------
    Huber, "Robust Statistics" (1981), section 7.7; Owen 2007, "A robust hybrid of lasso and ridge
    regression", doi:10.1090/conm/443/08555.
    """

    epsilon: float = 1.35

    @property
    def least_scale(self) -> float:
        """Below which sigma never falls: for residuals that all vanish. Local."""
        return _LEAST / self.start.curvature

    def evaluate(
        self,
        w: Vector,
        *,
        columns: NDArray[np.int64] | None = None,
        window: NDArray[np.int64] | None = None,
    ) -> Point:
        """Return value, gradient and the Hessian of some columns, in rising order, at w.

        Collective: two passes; the messages of `scales`, and one or two as in `Objective.evaluate`.
        """
        sigma = self.scale_at(w)
        at_scale = self._with(Huber(self.epsilon * sigma)).evaluate(w, columns=columns, window=window)
        hessian = at_scale.hessian / sigma
        mean = MeanLoss(0.5 * sigma + at_scale.value / sigma, at_scale.gradient / sigma, hessian)
        return self.penalised(w, mean, columns, at_scale.window)

    def _with(self, loss: Huber) -> Objective:
        """Return the mean of another loss over the same rows, without a penalty. Local."""
        penalty = make_penalty(self.data.n_features)
        return Objective(
            self.data, loss, penalty, self.scaling, self.total_weight, self.fit_intercept, self.ballot
        )

    def scale_at(self, w: Vector) -> float:
        """Return the best sigma at w. Collective, a pass and a message a step."""
        coef, intercept = self.to_raw(w)
        rows = [
            (block.without_rows(), raw_prediction(block, coef, intercept) - _labels(block))
            for block in self.data.blocks()
        ]
        return float(self.scales(lambda k: iter(rows), 1)[0])

    def scales(self, residuals: Residuals, n: int) -> Vector:
        """Return the best sigma of each of n sets of residuals, (n,). Collective, usually 5 to 10 messages.

        ``sum s min(r^2, epsilon^2 t) - t sum s`` is concave in ``t = sigma^2``, a line between any two rows.
        Newton's method falls from infinity to its root, and ends there in finitely many steps.

        Parameters
        ----------
        residuals : callable
            Gives this process's blocks with the residuals of the k-th set.
        n : int
        """
        square, window = np.full(n, np.inf), None
        limit = np.square(self.least_scale)
        for _ in range(_MOST_STEPS):
            partials = partial(_inside, residuals, self.epsilon**2 * square)
            reduced = reduce_partials(self.data.comm, partials, 2 * n, window)
            window = reduced.window
            inside, weight = reduced.total.reshape(2, n)
            slope = self.total_weight - self.epsilon**2 * (self.total_weight - weight)
            lower = np.divide(inside, slope, out=np.zeros(n), where=slope > 0)
            falls = (lower < square) & (square > limit)
            if not falls.any():
                break
            square = np.where(falls, lower, square)
        return np.asarray(np.maximum(np.sqrt(square), self.least_scale))

    def line(self, w: Vector, direction: Vector) -> JointLine:
        """Return the objective along ``w + t direction``: one pass, no message. Local."""
        line = super().line(w, direction)
        return JointLine(self, w, direction, line.margins)


@dataclass(frozen=True)
class JointLine(Line):
    """The objective on a line, from cached margins; the scale moves along."""

    objective: JointScale

    def values(self, steps: Vector) -> Vector:
        """Return F at each step, (n_steps,). Collective, a message a step of sigma and two."""
        sigmas = self._scales(steps)

        def sums(margin: tuple[Block, Vector, Vector], k: int) -> Vector:
            block, z, q = margin
            loss = Huber(self.objective.epsilon * sigmas[k])
            return block.shard_sums(block.weights * loss.terms(z + steps[k] * q, _labels(block)).value)

        n = len(steps)
        partials = [np.stack([sums(margin, k) for k in range(n)], axis=1) for margin in self.margins]
        losses = self._reduced(partials, n) / self.objective.total_weight
        points = [self.objective.split(self.w + t * self.direction)[0] for t in steps]
        penalties = np.array([self.objective.penalty.value(w) for w in points])
        return np.asarray(0.5 * sigmas + losses / sigmas + penalties)

    def derivatives(self, step: float) -> tuple[float, float]:
        """Return slope and curvature of the mean loss at a step. Collective, as `values`."""
        sigma = float(self._scales(np.array([step]))[0])
        loss, partials = Huber(self.objective.epsilon * sigma), []
        for block, z, q in self.margins:
            terms = loss.terms(z + step * q, _labels(block))
            r, h = terms.slope, terms.curvature
            rows = np.stack([r * q, h * q * q, h * r * q, h * r * r], axis=1)
            partials.append(block.shard_sums(rows * block.weights[:, None]))
        slope, bend, cross, square = self._reduced(partials, 4) / self.objective.total_weight
        moving = cross * cross / square if square > 0 else 0.0
        return float(slope / sigma), float((bend - moving) / sigma)

    def _scales(self, steps: Vector) -> Vector:
        def residuals(k: int) -> Iterator[tuple[Block, Vector]]:
            for block, z, q in self.margins:
                yield block, z + steps[k] * q - _labels(block)

        return self.objective.scales(residuals, len(steps))


def _inside(residuals: Residuals, ends: Vector) -> Iterator[Vector]:
    """Yield partials of ``sum s r^2`` over the rows with r^2 up to each end, and then of ``sum s``."""
    columns = [
        [_sums_up_to(block, np.square(r), end) for block, r in residuals(k)] for k, end in enumerate(ends)
    ]
    for pairs in zip(*columns, strict=True):
        yield np.stack(pairs, axis=2).reshape(len(pairs[0]), 2 * ends.size)


def _sums_up_to(block: Block, square: Vector, end: float) -> Vector:
    inside = np.where(square > end, 0.0, block.weights)
    return block.shard_sums(np.stack([square * inside, inside], axis=1))


def joint_start(data: Dataset, total_weight: float, has_intercept: bool) -> Start:
    """Return where a fit starts: at the mean of y where there is an intercept, else at zero.

    Collective, one pass and two messages. The curvature is 1 over the spread of y about the start, at least
    2^-14 of its size: a spread below that of y's own rounding says nothing.
    """

    def sums(block: Block) -> list[Vector]:
        y = _labels(block)
        return [block.shard_sums(np.stack([y, np.square(y)], axis=1) * block.weights[:, None])]

    mean, square = (reduce_blocks(data, sums, 2).total / total_weight).tolist()
    centre = mean if has_intercept else 0.0
    spread = np.sqrt(max(square - centre * centre, 2.0**-28 * square))
    return Start(intercept=centre, curvature=float(1.0 / spread) if spread > 0 else 1.0)


def threshold_at(objective: Objective, w: Vector) -> float:
    """Return epsilon times the best scale at w, of a `JointScale`. Collective, as `JointScale.scale_at`."""
    assert isinstance(objective, JointScale)
    return objective.epsilon * objective.scale_at(w)


def _labels(block: Block) -> Vector:
    assert block.y is not None, "an objective needs labels"
    return block.y
