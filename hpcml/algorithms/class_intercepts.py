"""The intercepts of several classes that are best for given weights, found together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.kernels.rows import gram, pieces
from hpcml.algorithms.objective import Objective, Vector
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block

__all__ = ["with_best_intercepts"]

_STEPS = 100
_FLAT = 1e-16
"""A slope that is the rounding of mean probabilities."""
_LIGHT = 1e-9
"""The first damping after a step that went wrong, and what follows upon success."""
_SHORT = 1e-8
"""A slope and a step that may be rounding."""


class _Means(NamedTuple):
    """Over all rows: the loss, slopes and probabilities by class, (k,), and ``p p^T``, (k, k)."""

    value: float
    slope: Vector
    p: Vector
    cross: Vector

    @property
    def size(self) -> float:
        """The largest slope."""
        return float(np.abs(self.slope).max())

    def step(self, damping: float) -> Vector:
        """Return Newton's step, damped; the shortest where several solve its equations. Local."""
        curvature = np.diag(self.p + damping) - self.cross
        return np.asarray(np.linalg.lstsq(curvature, -self.slope, rcond=1e-13)[0], np.float64)

    def improves(self, old: _Means) -> bool:
        """Whether the loss is less, or by as little as rounding more and flatter. Local."""
        near = self.value <= old.value + 1e-14 * abs(old.value)
        return self.value < old.value or (near and self.size < old.size)


def with_best_intercepts(objective: Objective, w: Vector) -> Vector:
    """Return w with the intercepts where dF/db vanishes. Collective, one pass and two messages a step.

    Newton's method, damped where its steps go wrong, from cached raw predictions. It ends where rounding
    hides the slopes.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization" (2006), section 10.3 (Levenberg and Marquardt).
    """
    margins = tuple(_margins(objective, w))
    best = np.zeros(objective.loss.n_outputs)
    found, damping = _means(objective, margins, best), 0.0
    for _ in range(_STEPS):
        if not found.size > _FLAT:
            break
        step = found.step(damping)
        trial = _means(objective, margins, best + step)
        if trial.improves(found):
            best, found, damping = best + step, trial, damping / 10 if damping > _LIGHT else 0.0
        elif max(found.size, float(np.abs(step).max())) <= _SHORT:
            break
        else:
            damping = max(10 * damping, _LIGHT)
    return np.append(w[: objective.n_weights], w[objective.n_weights :] + best)


def _margins(objective: Objective, w: Vector) -> Iterator[tuple[Block, Vector]]:
    coef, intercept = objective.to_raw(w)
    for block in objective.data.blocks():
        yield block.without_rows(), raw_prediction(block, coef, intercept)


def _means(objective: Objective, margins: tuple[tuple[Block, Vector], ...], shift: Vector) -> _Means:
    """Return the means at shifted intercepts. Collective, two messages."""
    k = shift.size
    partials = [_shard_sums(objective, block, z + shift) for block, z in margins]
    reduced = reduce_partials(objective.data.comm, lambda: partials, 1 + k * (k + 2))
    means = reduced.total / objective.total_weight
    parts = np.split(means[1:], [k, 2 * k])
    return _Means(float(means[0]), parts[0], parts[1], parts[2].reshape(k, k))


def _shard_sums(objective: Objective, block: Block, z: Vector) -> Vector:
    assert block.y is not None, "an objective needs labels"
    value, slope, p = objective.loss.terms(z, block.y)
    out = np.zeros((block.n_shards, 1 + z.shape[1] * (z.shape[1] + 2)))
    for piece in pieces(replace(block, X=p)):
        s = block.weights[piece.rows]
        first = [[s @ value[piece.rows]], s @ slope[piece.rows], s @ piece.X]
        out[piece.shard] += np.concatenate([*first, gram(piece.X, s).ravel()])
    return out
