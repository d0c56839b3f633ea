"""Products of a run of rows with vectors, dense and CSR alike. All Local.

Every product is taken over a block's own rows, whose number follows from data and spec: the same
shapes reach BLAS whatever the number of ranks, so the same bits come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.data import Block, Matrix, is_csr, row_view

__all__ = ["Piece", "gram", "n_sums", "pieces", "some_columns", "squares"]

Vector = NDArray[np.float64]


class Piece(NamedTuple):
    """The rows of one block, and the place of its shard in the run."""

    X: Matrix
    rows: slice
    shard: int


def pieces(block: Block) -> Iterator[Piece]:
    """Yield the non-empty blocks of a run of shards in order."""
    shards = np.searchsorted(block.shards, block.pieces[:-1], side="right") - 1
    for (start, stop), shard in zip(pairwise(block.pieces.tolist()), shards.tolist(), strict=True):
        if stop > start:
            yield Piece(row_view(block.X, start, stop), slice(start, stop), shard)


def n_sums(d: int, columns: NDArray[np.int64] | None) -> int:
    """Return the number of sums in a partial over d features, with the Hessian of some columns."""
    k = 0 if columns is None else columns.size
    return 2 + d + (0 if columns is None else 1 + k + k * (k + 1) // 2)


def some_columns(X: Matrix, columns: NDArray[np.int64]) -> Matrix:
    """Return X[:, columns], X itself where those are all."""
    return X if columns.size == X.shape[1] else X[:, columns]


def gram(X: Matrix, weight: Vector) -> NDArray[np.float64]:
    """Return ``X.T @ diag(weight) @ X``, (n_features, n_features), for weight >= 0."""
    root = np.sqrt(weight)
    if not is_csr(X):
        rows = X * root[:, None]
        return np.asarray(rows.T @ rows)
    scaled = X.astype(np.float64)
    scaled.data = scaled.data * np.repeat(root, np.diff(X.indptr))
    return np.asarray((scaled.T @ scaled).toarray())


def squares(X: Matrix, weight: Vector, center: Vector) -> Vector:
    """Return ``sum_i weight_i (x_i - center)^2``, (n_features,), for weight >= 0.

    CSR rows add what is stored and the zeros apart, all of it positive: ``sum weight x (x - 2 center)``
    would lose the digits of a column that is far from zero.
    """
    if not is_csr(X):
        return np.asarray(weight @ np.square(X - center))
    n, d = X.shape
    weights = np.repeat(weight, np.diff(X.indptr))
    stored = np.bincount(X.indices, weights * np.square(X.data - center[X.indices]), d)
    absent = np.maximum(weight.sum() - np.bincount(X.indices, weights, d), 0.0)
    absent[np.bincount(X.indices, minlength=d) == n] = 0.0
    return np.asarray(stored + absent * np.square(center))
