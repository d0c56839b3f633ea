"""The first look at rows that are to be grouped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.moments import shard_moments, shard_squares
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.algorithms.survey import Names, check_block
from hpcml.collectives import agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import DataError, shared

__all__ = ["Look", "look"]

Vector = NDArray[np.float64]
_CANCELS = 1e8
"""Mean square over variance from which a difference of the two has too few digits."""


class Look(NamedTuple):
    """What the first pass found, the same on every process.

    Attributes
    ----------
    n_rows : int
    total_weight : float
    variance : float
        Mean over the columns of their weighted variances.
    """

    n_rows: int
    total_weight: float
    variance: float


def look(data: Dataset, names: Names, *, finite: bool = False) -> Look:
    """Check that the rows are fit to be grouped, and find how far they spread.

    Collective: one pass and three messages; one pass and two messages more where the columns' means are
    10,000 times their spread.

    Parameters
    ----------
    data : Dataset
    names : Names
    finite : bool
        X is known to be finite, and is not looked through for that.

    Raises
    ------
    DataError
        NaN or Inf, a negative weight, weights that are all zero, no rows, or squares that overflow.
    """
    d = data.n_features
    terms: list[Vector] = []
    with agreed(data.comm):
        for block in data.blocks():
            check_block(block.without_rows() if finite else block, names)
            terms.extend(_terms(block))
    sums = reduce_partials(data.comm, lambda: terms, 3 + d).total
    n_rows, weight, squares = int(sums[0]), float(sums[1]), float(sums[-1])
    if n_rows == 0:
        raise shared(DataError(f"{names.X}: there are no rows"))
    if not weight > 0:
        raise shared(DataError(f"{names.weight}: the weights are all zero"))
    if not np.isfinite(sums).all():
        large = "numbers so large that sums of their squares are no numbers; scale its columns"
        raise shared(DataError(f"{names.X} has {large}"))
    mean = sums[2:-1] / weight
    square = float(np.sum(np.square(mean)))
    spread = squares / weight - square
    if not spread * _CANCELS > square:
        about = reduce_blocks(data, lambda block: shard_squares(block, mean), d).total
        spread = float(np.sum(about)) / weight
    return Look(n_rows, weight, spread / d)


def _terms(block: Block) -> Iterator[Vector]:
    """Yield ``[rows, sum s, sum s x, sum s |x|^2]`` of each shard, (any, 3 + n_features)."""
    zero = np.zeros(block.X.shape[1])
    moments = np.concatenate([np.zeros((0, 1 + zero.size)), *shard_moments(block)])
    squares = np.concatenate([np.zeros((0, zero.size)), *shard_squares(block, zero)])
    yield np.column_stack([np.diff(block.shards), moments, squares.sum(axis=1)])
