"""The passes of passes.py in NumPy and BLAS, block by block: where the compiled kernels are not there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import Piece, gram, pieces
from hpcml.algorithms.losses import Loss, Terms
from hpcml.data import Block

__all__ = ["raw_prediction", "shard_sums"]

Vector = NDArray[np.float64]


def raw_prediction(block: Block, coef: Vector, intercept: float) -> Vector:
    """Return ``X @ coef + intercept``, (rows,). Local."""
    z = np.full(block.n_rows, intercept)
    for piece in pieces(block):
        z[piece.rows] += piece.X @ coef
    return z


def shard_sums(
    block: Block, loss: Loss, coef: Vector, intercept: float, hessian: bool = False
) -> Iterator[Vector]:
    """Yield a partial for each shard that has rows. Local.

    With a Hessian one at a time, since all of them may be larger than the data.
    """
    upper = np.triu_indices(block.X.shape[1]) if hessian else None

    def sums(piece: Piece) -> Vector:
        y = np.zeros(piece.X.shape[0]) if block.y is None else block.y[piece.rows]
        return _piece_sums(block, piece, loss.terms(piece.X @ coef + intercept, y), upper)

    runs = groupby(pieces(block), key=attrgetter("shard"))
    shards = (reduce(np.add, map(sums, run)) for _, run in runs)
    if hessian:
        yield from (shard[None] for shard in shards)
    elif rows := list(shards):
        yield np.stack(rows)


def _piece_sums(block: Block, piece: Piece, terms: Terms, upper: Any) -> Vector:
    """Return [loss, sum r, X^T r] and, with `upper`, [sum h, X^T h, upper triangle of X^T diag(h) X]."""
    if block.weight is not None:
        terms = Terms(*(part * block.weight[piece.rows] for part in terms))
    value, slope, curvature = terms
    parts = [[value.sum(), slope.sum()], piece.X.T @ slope]
    if upper is not None:
        parts += [[curvature.sum()], piece.X.T @ curvature, gram(piece.X, curvature)[upper]]
    return np.concatenate(parts)
