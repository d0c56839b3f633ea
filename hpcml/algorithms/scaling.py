"""Implicit standardisation: algebra on the weights, never a copy of X."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.moments import shard_moments, shard_squares
from hpcml.algorithms.losses.base import Intercept
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, Dataset

__all__ = ["Scaling", "fit_scaling", "make_scaling", "no_scaling", "spreads", "sums"]

Vector = NDArray[np.float64]


class Scaling(NamedTuple):
    """Features are used as ``(x - mean) / scale``; both (n_features,)."""

    mean: Vector
    scale: Vector

    def to_raw(self, w: Vector, intercept: Intercept) -> tuple[Vector, Intercept]:
        """Return weights, (n_features,) or (n_outputs, n_features), and intercept on the original features.

        Local. ``((x - mean) / scale) . w + b = x . (w / scale) + (b - mean . (w / scale))``
        """
        coef = w / self.scale
        return coef, intercept - self.mean @ coef.T

    def from_raw(self, coef: Vector, intercept: Intercept) -> tuple[Vector, Intercept]:
        """Return weights and intercept on the scaled features, what `to_raw` takes back. Local."""
        return coef * self.scale, intercept + self.mean @ coef.T


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
    first = reduce_blocks(data, sums, d + 1).total
    second = reduce_blocks(data, lambda block: spreads(block, first), d).total
    return make_scaling(first, second, data.n_samples, with_mean, with_std)


def sums(block: Block) -> Iterator[Vector]:
    """Yield ``sum w`` and ``sum w x`` of each shard in order, (any, 1 + n_features). Local."""
    return shard_moments(block)


def spreads(block: Block, first: Vector) -> Iterator[Vector]:
    """Yield ``sum w (x - mean)^2`` of each shard in order, (any, n_features). Local.

    Parameters
    ----------
    block : Block
    first : (1 + n_features,) array
        What `sums` add up to over all shards.
    """
    return shard_squares(block, first[1:] / first[0])


def make_scaling(first: Vector, second: Vector, n_rows: int, with_mean: bool, with_std: bool) -> Scaling:
    """Return the scaling that follows from the totals of `sums` and of `spreads`. Local."""
    weight, mean = first[0], first[1:] / first[0]
    variance = second / weight
    # Rounding alone leaves about n eps |mean| of spread in a constant column.
    eps = np.finfo(float).eps
    constant = variance <= n_rows * eps * variance + np.square(n_rows * mean * eps)
    scale = np.where(constant, 1.0, np.sqrt(variance)) if with_std else np.ones(mean.size)
    return Scaling(mean if with_mean else np.zeros(mean.size), scale)
