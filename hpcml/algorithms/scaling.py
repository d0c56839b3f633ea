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
from hpcml.data.sampled import Sampled, shuffled_shards

__all__ = ["Scaling", "fit_scaling", "make_scaling", "no_scaling", "rough_scaling", "spreads", "sums"]

Vector = NDArray[np.float64]

_SHARE = 16
_LEAST_SHARDS = 64
_LEAST_NUMBERS = 1 << 22


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


def rough_scaling(data: Dataset, seed: int = 0) -> Scaling | None:
    """Return what a 16th of the shards says of means and standard deviations, or None.

    Collective: two passes over the sample, four messages. It serves where a scaling changes how fast a solver
    is and not what it finds. None for fewer than 2^22 numbers in X or 64 shards, and where a column has no
    spread in the sample. The sample is keyed by the seed and the shards' numbers.
    """
    d, order = data.n_features, shuffled_shards(data.partition, seed)
    if order.size < _LEAST_SHARDS or data.n_samples * d < _LEAST_NUMBERS:
        return None
    sample = Sampled(data, order[: order.size // _SHARE])
    first = reduce_blocks(sample, sums, d + 1).total
    if not first[0] > 0.0:
        return None
    second = reduce_blocks(sample, lambda block: spreads(block, first), d).total
    if _without_spread(first, second, data.n_samples).any():
        return None
    return make_scaling(first, second, data.n_samples, True, True)


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
    mean, deviation = first[1:] / first[0], np.sqrt(second / first[0])
    constant = _without_spread(first, second, n_rows)
    scale = np.where(constant, 1.0, deviation) if with_std else np.ones(mean.size)
    return Scaling(mean if with_mean else np.zeros(mean.size), scale)


def _without_spread(first: Vector, second: Vector, n_rows: int) -> NDArray[np.bool_]:
    """Return which columns are constant: rounding alone leaves about n eps |mean| of spread."""
    mean, variance, eps = first[1:] / first[0], second / first[0], np.finfo(float).eps
    return np.asarray(variance <= n_rows * eps * variance + np.square(n_rows * mean * eps))
