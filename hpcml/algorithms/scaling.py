"""Implicit standardisation: algebra on the weights, never a copy of X."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import pieces, squares
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, Dataset

__all__ = ["Scaling", "fit_scaling", "no_scaling"]

Vector = NDArray[np.float64]


class Scaling(NamedTuple):
    """Features are used as ``(x - mean) / scale``; both (n_features,)."""

    mean: Vector
    scale: Vector

    def to_raw(self, w: Vector, intercept: float) -> tuple[Vector, float]:
        """Return weights and intercept on the original features. Local.

        ``((x - mean) / scale) . w + b = x . (w / scale) + (b - mean . (w / scale))``
        """
        coef = w / self.scale
        return coef, intercept - float(self.mean @ coef)

    def from_raw(self, coef: Vector, intercept: float) -> tuple[Vector, float]:
        """Return weights and intercept on the scaled features, what `to_raw` takes back. Local."""
        return coef * self.scale, intercept + float(self.mean @ coef)


def no_scaling(n_features: int) -> Scaling:
    """Return the scaling that changes nothing. Local."""
    return Scaling(np.zeros(n_features), np.ones(n_features))


def fit_scaling(data: Dataset, with_mean: bool, with_std: bool) -> Scaling:
    """Return weighted means and standard deviations of the columns.

    Collective: two passes, four messages. The second pass subtracts the mean first, which keeps the digits
    that ``E[x^2] - E[x]^2`` loses (Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115). A
    column without spread gets scale 1.
    """
    d = data.n_features
    sums = reduce_blocks(data, _sums, d + 1).total
    weight, mean = sums[0], sums[1:] / sums[0]

    def spread(block: Block) -> list[Vector]:
        out = np.zeros((block.n_shards, d))
        for piece in pieces(block):
            out[piece.shard] += squares(piece.X, block.weights[piece.rows], mean)
        return [out]

    variance = reduce_blocks(data, spread, d).total / weight
    # Rounding alone leaves about n eps |mean| of spread in a constant column.
    eps = np.finfo(float).eps
    constant = variance <= data.n_samples * eps * variance + np.square(data.n_samples * mean * eps)
    scale = np.where(constant, 1.0, np.sqrt(variance)) if with_std else np.ones(d)
    return Scaling(mean if with_mean else np.zeros(d), scale)


def _sums(block: Block) -> list[Vector]:
    out = np.zeros((block.n_shards, 1 + block.X.shape[1]))
    weight = block.weights
    out[:, 0] = block.shard_sums(weight)
    for piece in pieces(block):
        out[piece.shard, 1:] += piece.X.T @ weight[piece.rows]
    return [out]
