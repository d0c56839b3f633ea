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

_STEPS = 80
_NEAR = 0.5
"""Newton's step is taken where no intercept moves farther."""
_LEAST = 2.0**-100
"""A mean probability or a share of rows that is taken for none."""


class _Means(NamedTuple):
    """Over all rows: slopes and probabilities by class, (k,), and ``p p^T``, (k, k)."""

    slope: Vector
    p: Vector
    cross: Vector

    def newton(self) -> Vector:
        """Return Newton's step, the shortest of those that solve its equations. Local."""
        curvature = np.diag(self.p) - self.cross
        return np.asarray(np.linalg.lstsq(curvature, -self.slope, rcond=1e-13)[0], np.float64)

    def scaling(self) -> Vector:
        """Return the step that makes probabilities larger by what they lack: it never goes uphill. Local."""
        shares = np.maximum(self.p - self.slope, _LEAST)
        return np.asarray(np.log(shares) - np.log(np.maximum(self.p, _LEAST)))


def with_best_intercepts(objective: Objective, w: Vector) -> Vector:
    """Return w with the intercepts where dF/db vanishes. Collective, one pass and two messages a step.

    Newton's method where it moves little, elsewhere iterative scaling, from cached raw predictions. It ends
    where rounding hides the slopes.

    References
    ----------
    Darroch and Ratcliff 1972, doi:10.1214/aoms/1177692379.
    """
    margins = tuple(_margins(objective, w))
    shift = best = np.zeros(objective.loss.n_outputs)
    smallest, is_near = np.inf, False
    for _ in range(_STEPS):
        means = _means(objective, margins, shift)
        size = float(np.abs(means.slope).max())
        if size < smallest:
            smallest, best = size, shift
        elif is_near or not np.isfinite(size):
            break
        if size == 0.0:
            break
        step = means.newton()
        is_near = bool(np.abs(step).max() <= _NEAR)
        shift = shift + (step if is_near else means.scaling())
    return np.append(w[: objective.n_weights], w[objective.n_weights :] + best)


def _margins(objective: Objective, w: Vector) -> Iterator[tuple[Block, Vector]]:
    coef, intercept = objective.to_raw(w)
    for block in objective.data.blocks():
        yield block.without_rows(), raw_prediction(block, coef, intercept)


def _means(objective: Objective, margins: tuple[tuple[Block, Vector], ...], shift: Vector) -> _Means:
    """Return the means at shifted intercepts. Collective, two messages."""
    k = shift.size
    partials = [_shard_sums(objective, block, z + shift) for block, z in margins]
    reduced = reduce_partials(objective.data.comm, lambda: partials, k * (k + 2))
    means = reduced.total / objective.total_weight
    return _Means(means[:k], means[k : 2 * k], means[2 * k :].reshape(k, k))


def _shard_sums(objective: Objective, block: Block, z: Vector) -> Vector:
    assert block.y is not None, "an objective needs labels"
    _, slope, p = objective.loss.terms(z, block.y)
    out = np.zeros((block.n_shards, z.shape[1] * (z.shape[1] + 2)))
    for piece in pieces(replace(block, X=p)):
        s = block.weights[piece.rows]
        out[piece.shard] += np.concatenate([s @ slope[piece.rows], s @ piece.X, gram(piece.X, s).ravel()])
    return out
