"""Passes over a run of shards: one interface to the compiled kernels and to NumPy's. All Local.

One call takes a whole Block. What comes back depends on the rows of each shard alone, and with the
compiled kernels on no instruction set: sums run in 8 fixed lanes, and products are added by fma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcml.algorithms.kernels import plain
from hpcml.algorithms.kernels.choice import chosen, compiled
from hpcml.algorithms.kernels.rows import n_sums
from hpcml.algorithms.losses import Loss, Squared
from hpcml.algorithms.losses.base import Intercept
from hpcml.data import Block, Matrix, is_csr, run_of

if TYPE_CHECKING:
    from hpcml.algorithms.losses.softmax import Softmax

__all__ = [
    "compiled_rows",
    "hessian_product",
    "is_compiled",
    "module",
    "n_sums",
    "raw_prediction",
    "runs",
    "shard_sums",
    "softmax_sums",
]

Vector = NDArray[np.float64]

_MOST_COLUMNS = 2**31 - 1  # that int32 indices reach
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
_PARTIAL_BYTES = 4 << 20  # of the partials made at a time: all of a run may be larger than its rows


def shard_sums(
    block: Block, loss: Loss, coef: Vector, intercept: Intercept, columns: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.float64]]:
    """Yield partials, (any, n_sums), one row for each shard in order; zeros for one without rows.

    With s, r and h the weight, slope and curvature of each row at its raw prediction, the offset included:
    ``[sum s loss, sum s r, X^T (s r)]``, and of C = X[:, columns] ``[sum s h, C^T (s h), upper triangle of
    C^T diag(s h) C]`` after it.

    Parameters
    ----------
    block : Block
        Without labels they are zeros.
    loss : Loss
    coef : (n_features,) array
        On the columns of X as they are. For a softmax (n_classes, n_features), and the partials are those of
        `softmax_sums`.
    intercept : float or (n_classes,) array
    columns : (k,) array of int64, optional
        In rising order.
    """
    if loss.n_outputs > 1:
        yield from softmax_sums(block, cast("Softmax", loss), coef, np.asarray(intercept))
    elif not is_compiled(block.X):
        yield from plain.shard_sums(block, loss, coef, intercept, columns)
    else:
        for run in runs(block, 8 * n_sums(block.X.shape[1], columns)):
            yield _sums(run, loss, coef, intercept, columns)


def runs(block: Block, shard_bytes: float) -> Iterator[Block]:
    """Yield runs of shards for which what is made of each, of `shard_bytes`, stays small together."""
    step = max(1, int(_PARTIAL_BYTES // shard_bytes))
    if step >= block.n_shards:
        yield block
        return
    for first in range(0, block.n_shards, step):
        yield run_of(block, first, min(first + step, block.n_shards))


def _sums(
    block: Block, loss: Loss, coef: Vector, intercept: Intercept, columns: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    out = np.empty((block.n_shards, n_sums(block.X.shape[1], columns)))
    labels, borders = (block.y, block.weight, block.offset), (block.shards, block.pieces)
    model = (np.ascontiguousarray(coef, np.float64), float(intercept))
    module().sums(chosen(), compiled_rows(block.X), labels, borders, loss.formula, model, columns, out)
    return out


def hessian_product(block: Block, curvature: Vector, v: Vector, v0: Intercept) -> Iterator[Vector]:
    """Yield ``[q / 2, sum h q_i, X^T (h q)]`` with ``q = X v + v0``, for each shard in order.

    One pass for what a conjugate gradient needs; the first number is ``sum h q^2 / 2``. It is value and
    gradient of the squared loss with labels 0 and weights h.

    Parameters
    ----------
    block : Block
    curvature : (rows,) array
        h, the weights of the rows included; at least 0. Or (rows, k), the probabilities of a softmax.
    v : (n_features,) array, or (k, n_features)
    v0 : float or (k,) array
        Change of the intercept.
    """
    if curvature.ndim == 2:
        from hpcml.algorithms.losses.softmax import Softmax  # few fits have several classes

        anything = Softmax(tuple(range(len(v))))
        return softmax_sums(replace(block, y=None), anything, v, np.asarray(v0), curvature)
    return shard_sums(replace(block, y=None, weight=curvature, offset=None), Squared(), v, v0)


def raw_prediction(block: Block, coef: Vector, intercept: Intercept) -> Vector:
    """Return ``X @ coef + intercept + offset``, (rows,); ``X @ coef.T + intercept`` for several outputs."""
    if coef.ndim == 2:
        return _raw_predictions(block, coef, np.asarray(intercept))
    if not is_compiled(block.X):
        return plain.raw_prediction(block, coef, intercept)
    z = np.empty(block.X.shape[0])
    module().predict(
        chosen(), compiled_rows(block.X), np.ascontiguousarray(coef, np.float64), float(intercept), z
    )
    return z if block.offset is None else np.add(z, block.offset, out=z)


def softmax_sums(
    block: Block, loss: Softmax, coef: Vector, intercept: Vector, known: Vector | None = None
) -> Iterator[NDArray[np.float64]]:
    """Yield ``[sum s loss, sum s r, X^T (s r)]``, k of the second and k rows of the third, for each shard.

    Parameters
    ----------
    block : Block
    loss : Softmax
    coef : (k, n_features) array
    intercept : (k,) array
    known : (rows, k) array, optional
        Probabilities p: then ``z = X coef^T + intercept`` is a direction q, the loss ``q^T h q / 2`` and the
        slope h q, with ``h = diag(p) - p p^T``.
    """
    if not is_compiled(block.X):
        from hpcml.algorithms.kernels import softmax

        yield from softmax.shard_sums(block, loss, coef, intercept, known)
        return
    width, start = 1 + coef.shape[0] * (1 + coef.shape[1]), 0
    model = _classes(loss.classes, coef, intercept)
    for run in runs(block, 8 * width):
        p = None if known is None else known[start : start + run.n_rows]
        out, start = np.empty((run.n_shards, width)), start + run.n_rows
        labels, borders = (run.y, run.weight, p), (run.shards, run.pieces)
        module().softmax_sums(chosen(), compiled_rows(run.X), labels, borders, model, out)
        yield out


def _raw_predictions(block: Block, coef: Vector, intercept: Vector) -> NDArray[np.float64]:
    if not is_compiled(block.X):
        from hpcml.algorithms.kernels import softmax

        return softmax.raw_predictions(block, coef, intercept)
    z = np.empty((block.X.shape[0], len(coef)))
    model = _classes(np.arange(len(coef)), coef, intercept)
    module().softmax_scores(chosen(), compiled_rows(block.X), model, z)
    return z


def _classes(labels: ArrayLike, coef: Vector, intercept: Vector) -> tuple[Vector, Vector, Vector]:
    """Return a model of several classes as the compiled kernels take it."""
    first, second, third = (np.ascontiguousarray(part, np.float64) for part in (labels, coef, intercept))
    return first, second, third


def module() -> Any:
    """Return the extension module, for rows that it takes. Local."""
    return compiled()


def is_compiled(X: Matrix) -> bool:
    """Tell whether the compiled kernels take X.

    The answer must be the same on every rank: it follows from what ranks agree on, the type of X and
    the number of its columns.
    """
    return chosen() != "numpy" and X.dtype in _FLOATS and X.shape[1] <= _MOST_COLUMNS


def compiled_rows(X: Matrix) -> tuple[Any, ...]:
    """Return X as the compiled kernels take it.

    SciPy widens the indices of a matrix with many entries, whatever its columns.
    """
    if is_csr(X):
        return X.data, X.indices.astype(np.int32, copy=False), X.indptr, X.shape[1]
    return (X if X.strides[1] == X.itemsize or X.shape[1] < 2 else np.ascontiguousarray(X),)
