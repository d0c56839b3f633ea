"""Numbers keyed by the row that decide which rows are drawn. All Local."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.least_rows import Keys
from hpcml.data import Block
from hpcml.data.partition import uniform

__all__ = ["draws_by", "masses_of", "ones_of"]

Vector = NDArray[np.float64]
_STREAM = 16  # below are the streams of samples, splits and shards
_ROUNDS = 1 << 16


def draws_by(masses: Callable[[Block], Vector], seed: int, start: int, round: int) -> Keys:
    """Return keys ``u / mass`` of rows: the n least are a sample with probabilities like the masses.

    A row of mass 0 is never drawn.

    Parameters
    ----------
    masses : callable
        Gives the masses of a block's rows.
    seed : int
    start, round : int
        Of one start the rounds, and all starts, draw apart from each other.
    """

    def keys(block: Block) -> Vector:
        mass = masses(block)
        u = uniform(seed, _STREAM + start * _ROUNDS + round, block.index)
        with np.errstate(over="ignore"):
            return np.asarray(np.divide(u, mass, out=np.full(mass.size, np.inf), where=mass > 0))

    return keys


def masses_of(block: Block) -> Vector:
    """Return the weights of the rows, as masses."""
    return block.weights


def ones_of(block: Block) -> Vector:
    """Return 1 for each row that weighs, else 0."""
    return (block.weights > 0).astype(np.float64)
