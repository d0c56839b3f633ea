"""First and second moments of the columns of each shard: compiled, and in NumPy. All Local."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.choice import chosen
from hpcml.algorithms.kernels.passes import compiled_rows, is_compiled, module, runs, shard_sums
from hpcml.algorithms.kernels.rows import pieces, squares
from hpcml.algorithms.losses import Squared
from hpcml.data import Block

__all__ = ["shard_moments", "shard_squares"]

Vector = NDArray[np.float64]


def shard_moments(block: Block) -> Iterator[Vector]:
    """Yield ``[sum s, sum s x]``, (any, 1 + n_features), one row for each shard in order.

    They are the slopes of least squares whose predictions are all 1 and whose labels are all 0.
    """
    unlabelled = Block(block.X, None, block.weight, block.start, block.shards, block.pieces)
    for partials in shard_sums(unlabelled, Squared(), np.zeros(block.X.shape[1]), 1.0):
        yield partials[:, 1:]


def shard_squares(block: Block, center: Vector) -> Iterator[Vector]:
    """Yield ``sum s (x - center)^2``, (any, n_features), one row for each shard in order.

    With the compiled kernels the bits depend on no instruction set.

    Parameters
    ----------
    block : Block
    center : (n_features,) array
    """
    if not is_compiled(block.X):
        yield _squares(block, center)
        return
    for run in runs(block, 8 * max(center.size, 1)):
        out = np.empty((run.n_shards, center.size))
        module().squares(chosen(), compiled_rows(run.X), run.weight, run.shards, center, out)
        yield out


def _squares(block: Block, center: Vector) -> Vector:
    out, weights = np.zeros((block.n_shards, center.size)), block.weights
    for piece in pieces(block):
        out[piece.shard] += squares(piece.X, weights[piece.rows], center)
    return out
