"""Stochastic gradient descent over each shard on its own: compiled, and in NumPy. All Local."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.choice import chosen
from hpcml.algorithms.kernels.passes import compiled_rows, is_compiled, module
from hpcml.algorithms.losses import Loss
from hpcml.data import Block, row_view

__all__ = ["Steps", "shard_walks"]

Vector = NDArray[np.float64]


class Steps(NamedTuple):
    """How a walk steps.

    Attributes
    ----------
    rows : int
        Of a step; the last step of a shard may have fewer.
    step : float
        What the sums over the rows of a step are multiplied by.
    has_intercept : bool
    mean, metric, shrink : (n_features,) array
        What features are centred by, one over their squared scale, and the share of a weight that a step
        takes away.
    """

    rows: int
    step: float
    has_intercept: bool
    mean: Vector
    metric: Vector
    shrink: Vector


def shard_walks(block: Block, loss: Loss, coef: Vector, intercept: float, steps: Steps) -> Vector:
    """Return where a walk over the rows of each shard leads, (n_shards, n_features + 1).

    From ``(w, b)``, for some rows after others in order: ``z = (x - mean) . w + b + offset``,
    ``w <- w - step metric sum s slope (x - mean) - shrink w`` and ``b <- b - step sum s slope``. The answer
    is the average of the iterates in which the k-th weighs k: weights on the features as they are, then b.
    With the compiled kernels its bits depend on no instruction set.

    Parameters
    ----------
    block : Block
    loss : Loss
    coef : (n_features,) array
        On the columns of X as they are.
    intercept : float
        Of those columns too: ``b - mean . coef``.
    steps : Steps
    """
    out = np.empty((block.n_shards, coef.size + 1))
    if is_compiled(block.X):
        borders, start = (block.shards, block.pieces), (np.ascontiguousarray(coef), float(intercept))
        labels = (block.y, block.weight, block.offset)
        module().walk(
            chosen(), compiled_rows(block.X), labels, borders, loss.formula, start, tuple(steps), out
        )
        return out
    for i in range(block.n_shards):
        out[i] = _walk(block, (int(block.shards[i]), int(block.shards[i + 1])), loss, coef, intercept, steps)
    return out


def _walk(
    block: Block, rows: tuple[int, int], loss: Loss, coef: Vector, intercept: float, steps: Steps
) -> Vector:
    weights, (start, stop) = block.weights, rows
    w, b = coef, intercept + float(steps.mean @ coef)
    mean = np.append(w, b)
    for k, first in enumerate(range(start, stop, steps.rows)):
        part = slice(first, min(first + steps.rows, stop))
        X = row_view(block.X, part.start, part.stop)
        y = np.zeros(X.shape[0]) if block.y is None else block.y[part]
        z = X @ w + (b - float(steps.mean @ w))
        z = z if block.offset is None else z + block.offset[part]
        slope = weights[part] * loss.terms(z, y).slope
        total = float(slope.sum())
        w = w - steps.step * (X.T @ slope - steps.mean * total) * steps.metric - steps.shrink * w
        b -= steps.step * total * steps.has_intercept
        mean = mean + 2.0 / (k + 2.0) * (np.append(w, b) - mean)
    return mean
