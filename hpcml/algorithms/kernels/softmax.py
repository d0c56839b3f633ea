"""The passes of a softmax in NumPy and BLAS, block by block: where the compiled kernels are not there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import Piece, pieces
from hpcml.algorithms.losses.softmax import Softmax
from hpcml.data import Block

__all__ = ["raw_predictions", "shard_sums"]

Vector = NDArray[np.float64]


def raw_predictions(block: Block, coef: Vector, intercept: Vector) -> NDArray[np.float64]:
    """Return ``X @ coef.T + intercept``, (rows, n_classes). Local."""
    z = np.empty((block.n_rows, len(coef)))
    for piece in pieces(block):
        z[piece.rows] = piece.X @ coef.T + intercept
    return z


def shard_sums(
    block: Block, loss: Softmax, coef: Vector, intercept: Vector, known: Vector | None
) -> Iterator[NDArray[np.float64]]:
    """Yield a partial for each shard, as `passes.softmax_sums`. Local."""
    k, d = coef.shape
    out = np.zeros((block.n_shards, 1 + k * (1 + d)))
    for piece in pieces(block):
        z = piece.X @ coef.T + intercept
        value, slope = _terms(block, piece, loss, z) if known is None else _products(z, known[piece.rows])
        if block.weight is not None:
            weight = block.weight[piece.rows]
            value, slope = value * weight, slope * weight[:, None]
        products = np.asarray(piece.X.T @ slope).T
        out[piece.shard] += np.concatenate([[value.sum()], slope.sum(axis=0), products.ravel()])
    yield out


def _terms(block: Block, piece: Piece, loss: Softmax, z: Vector) -> tuple[Vector, Vector]:
    assert block.y is not None, "a classifier needs labels"
    terms = loss.terms(z, block.y[piece.rows])
    return terms.value, terms.slope


def _products(q: Vector, p: Vector) -> tuple[Vector, Vector]:
    """Return ``q^T h q / 2`` and h q of each row, with ``h = diag(p) - p p^T``."""
    away = q - (p * q).sum(axis=1, keepdims=True)
    return 0.5 * (p * away * away).sum(axis=1), p * away
