"""Passes over a run of shards: one interface to the compiled kernels and to NumPy's. All Local.

One call takes a whole Block. What comes back depends on the rows of each shard alone, and with the
compiled kernels on no instruction set: sums run in 8 fixed lanes, and products are added by fma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels import plain
from hpcml.algorithms.kernels.choice import chosen, compiled
from hpcml.algorithms.losses import Loss, Squared
from hpcml.data import Block, Matrix, is_csr

__all__ = ["hessian_product", "n_sums", "raw_prediction", "shard_sums"]

Vector = NDArray[np.float64]

_PARTIAL_BYTES = 4 << 20  # of the partials made at a time: all of a run may be larger than its rows


def n_sums(d: int, hessian: bool) -> int:
    """Return the number of sums in a partial over d features."""
    return 2 + d + (1 + d + d * (d + 1) // 2 if hessian else 0)


def shard_sums(
    block: Block, loss: Loss, coef: Vector, intercept: float, hessian: bool = False
) -> Iterator[Vector]:
    """Yield partials, (any, n_sums), one row for each shard in order.

    With s, r and h the weight, slope and curvature of each row: ``[sum s loss, sum s r, X^T (s r)]``, and
    with `hessian` ``[sum s h, X^T (s h), upper triangle of X^T diag(s h) X]`` after it. NumPy's kernels leave
    out shards without rows; the compiled ones give zeros.

    Parameters
    ----------
    block : Block
        Without labels they are zeros.
    loss : Loss
    coef : (n_features,) array
        On the columns of X as they are.
    intercept : float
    hessian : bool
    """
    rows = _rows(block.X)
    if rows is None:
        yield from plain.shard_sums(block, loss, coef, intercept, hessian)
        return
    columns, model = (block.y, block.weight, None), (np.ascontiguousarray(coef, np.float64), intercept)
    n = n_sums(block.X.shape[1], hessian)
    step = max(1, _PARTIAL_BYTES // (8 * n))
    for first in range(0, block.n_shards, step):
        shards = block.shards[first : first + step + 1]
        out = np.empty((shards.size - 1, n))
        borders = (shards, _between(block.pieces, shards))
        _module().sums(chosen(), rows, columns, borders, loss.formula, model, hessian, out)
        yield out


def _between(pieces: NDArray[np.int64], shards: NDArray[np.int64]) -> NDArray[np.int64]:
    start = np.searchsorted(pieces, shards[0])
    return pieces[start : np.searchsorted(pieces, shards[-1], side="right")]


def hessian_product(block: Block, curvature: Vector, v: Vector, v0: float) -> Iterator[Vector]:
    """Yield ``[q / 2, sum h q_i, X^T (h q)]`` with ``q = X v + v0``, for each shard in order.

    One pass for what a conjugate gradient needs; the first number is ``sum h q^2 / 2``. It is value and
    gradient of the squared loss with labels 0 and weights h.

    Parameters
    ----------
    block : Block
    curvature : (rows,) array
        h, the weights of the rows included; at least 0.
    v : (n_features,) array
    v0 : float
        Change of the intercept.
    """
    return shard_sums(replace(block, y=None, weight=curvature), Squared(), v, v0)


def raw_prediction(block: Block, coef: Vector, intercept: float) -> Vector:
    """Return ``X @ coef + intercept``, (rows,)."""
    rows = _rows(block.X)
    if rows is None:
        return plain.raw_prediction(block, coef, intercept)
    z = np.empty(block.X.shape[0])
    _module().predict(chosen(), rows, np.ascontiguousarray(coef, np.float64), float(intercept), z)
    return z


def _module() -> Any:
    return compiled()


def _rows(X: Matrix) -> tuple[Any, ...] | None:
    """Return X as the compiled kernels take it, or None where NumPy computes.

    The answer must be the same on every rank: it follows from what ranks agree on, the type of X and
    the number of its columns. SciPy widens the indices of a matrix with many entries, whatever its columns.
    """
    if chosen() == "numpy" or X.dtype not in (np.float32, np.float64) or X.shape[1] > np.iinfo(np.int32).max:
        return None
    if is_csr(X):
        return X.data, X.indices.astype(np.int32, copy=False), X.indptr, X.shape[1]
    return (X if X.strides[1] == X.itemsize or X.shape[1] < 2 else np.ascontiguousarray(X),)
