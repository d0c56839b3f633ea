"""The objective over some shards of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block
from hpcml.data.sampled import Sampled, shuffled_shards

__all__ = ["for_hessians", "over_shards"]

_SHARE = 16
_LEAST_SHARDS = 64
_LEAST_NUMBERS = 1 << 22
_ROWS_PER_COLUMN = 64


def over_shards(objective: Objective, shards: NDArray[np.int64]) -> Objective:
    """Return the objective over these shards, whose weight may be 0. Collective, two messages."""
    weight, rows = reduce_blocks(Sampled(objective.data, shards), _weights, 2).total.tolist()
    return replace(objective, data=Sampled(objective.data, shards, int(rows)), total_weight=weight)


def _weights(block: Block) -> list[Vector]:
    weight = block.weights
    return [block.shard_sums(np.stack([weight, np.ones_like(weight)], axis=1))]


def for_hessians(objective: Objective, n_columns: int, seed: int = 0) -> Objective | None:
    """Return the objective over a 16th of the shards, or None where that is no sample for a Hessian.

    Collective, two messages where there is enough: 2^22 numbers in X, 64 shards, and 64 rows of the sample
    for each column, which brings the Hessian of a sample within about an eighth of that of all rows. The
    sample is keyed by the seed and the shards' numbers.

    References
    ----------
    Roosta-Khorasani and Mahoney, "Sub-sampled Newton methods", Mathematical Programming 174 (2019),
    doi:10.1007/s10107-018-1346-5.
    """
    data, order = objective.data, shuffled_shards(objective.data.partition, seed)
    is_small = order.size < _LEAST_SHARDS or data.n_samples * data.n_features < _LEAST_NUMBERS
    if is_small or data.n_samples < _SHARE * _ROWS_PER_COLUMN * n_columns:
        return None
    sample = over_shards(objective, order[: order.size // _SHARE])
    is_enough = sample.data.n_samples >= _ROWS_PER_COLUMN * n_columns and sample.total_weight > 0
    return sample if is_enough else None
