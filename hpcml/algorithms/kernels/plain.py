"""The passes of passes.py in NumPy and BLAS, block by block: where the compiled kernels are not there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import Piece, gram, n_sums, pieces, some_columns
from hpcml.algorithms.losses import Loss, Terms
from hpcml.algorithms.losses.base import Intercept
from hpcml.data import Block

__all__ = ["raw_prediction", "shard_sums"]

Vector = NDArray[np.float64]


def raw_prediction(block: Block, coef: Vector, intercept: Intercept) -> Vector:
    """Return ``X @ coef + intercept + offset``, (rows,). Local."""
    z = np.full(block.n_rows, intercept)
    for piece in pieces(block):
        z[piece.rows] += piece.X @ coef
    return z if block.offset is None else np.add(z, block.offset, out=z)


def shard_sums(
    block: Block, loss: Loss, coef: Vector, intercept: Intercept, columns: NDArray[np.int64] | None
) -> Iterator[NDArray[np.float64]]:
    """Yield a partial for each shard, with a Hessian one at a time. Local."""
    upper = None if columns is None else np.triu_indices(columns.size)
    n_all = n_sums(block.X.shape[1], columns)
    runs = {shard: list(run) for shard, run in groupby(pieces(block), key=attrgetter("shard"))}

    def sums(piece: Piece) -> Vector:
        y = np.zeros(piece.X.shape[0]) if block.y is None else block.y[piece.rows]
        z = piece.X @ coef + intercept
        z = z if block.offset is None else z + block.offset[piece.rows]
        return _piece_sums(block, piece, loss.terms(z, y), columns, upper)

    shards = (reduce(np.add, map(sums, runs.get(i, [])), np.zeros(n_all)) for i in range(block.n_shards))
    if columns is not None:
        yield from (shard[None] for shard in shards)
    elif rows := list(shards):
        yield np.stack(rows)


def _piece_sums(
    block: Block, piece: Piece, terms: Terms, columns: NDArray[np.int64] | None, upper: Any
) -> Vector:
    if block.weight is not None:
        terms = Terms(*(part * block.weight[piece.rows] for part in terms))
    value, slope, curvature = terms
    parts = [[value.sum(), slope.sum()], piece.X.T @ slope]
    if columns is not None:
        C = some_columns(piece.X, columns)
        parts += [[curvature.sum()], C.T @ curvature, gram(C, curvature)[upper]]
    return np.concatenate(parts)
