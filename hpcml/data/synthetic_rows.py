"""Rows of synthetic data, a block at a time."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcml.data.synthetic import Synthetic, Truth, generator

__all__ = ["Entries", "Rows", "columns_of", "count_entries", "dense_block", "sparse_block", "sparse_columns"]

_Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = dict[str, NDArray]  # type: ignore[type-arg]
"""Values of each data set but X of CSR form, by name."""
_LARGEST_LOG_RATE = 34.0  # counts stay below 2**53


class Entries(NamedTuple):
    """Entries of a block in the order of its rows."""

    data: NDArray[np.floating]
    indices: NDArray[np.int32]


def columns_of(settings: Synthetic) -> dict[str, str]:
    """Return the data sets with a value a row, and their dtypes. Local."""
    labels = {"regression": "<f8", "counts": "<i8"}.get(settings.kind, "<i4")
    columns = {"y": labels}
    if settings.kind == "counts":
        columns["offset"] = "<f8"
    if settings.weights:
        columns["weight"] = "<f8"
    return columns


def _rows_in(settings: Synthetic, block: int) -> int:
    """Return how many rows of a block are kept: whole blocks are drawn, so that rows do not depend on it."""
    return min(settings.block_rows, settings.rows - block * settings.block_rows)


def dense_block(settings: Synthetic, truth: Truth, block: int) -> Rows:
    """Return X (rows, features) and the columns of a block. Local.

    y is a function of X before it is rounded to float32.
    """
    n = settings.block_rows
    random = generator(settings.seed, "labels", block)
    X = generator(settings.seed, "features", block).standard_normal((n, settings.features))
    if truth.centers is not None:
        y = random.integers(len(truth.centers), size=n)
        X *= settings.noise_level
        X += truth.centers[y]
        return _finished(settings, block, {"X": X, "y": y})
    if truth.scales is not None and truth.mirror is not None:
        X *= truth.scales
        # Not by BLAS, whose bits depend on its number of threads.
        X -= 2.0 * np.einsum("ij,j->i", X, truth.mirror)[:, None] * truth.mirror
    assert truth.coef is not None
    linear = np.einsum("ij,kj->ik", X[:, truth.used], truth.coef[:, truth.used])
    return _finished(settings, block, {"X": X, **_responses(settings, truth, linear, random)})


def _finished(settings: Synthetic, block: int, rows: Rows) -> Rows:
    """Add weights, give every column its type, and drop the rows behind the last one."""
    if settings.weights:
        random = generator(settings.seed, "weights", block)
        rows["weight"] = random.uniform(0.5, 1.5, settings.block_rows)
    n = _rows_in(settings, block)
    dtypes = columns_of(settings) | {"X": settings.dtype}
    return {name: values[:n].astype(dtypes[name], copy=False) for name, values in rows.items()}


def _responses(settings: Synthetic, truth: Truth, linear: _Floats, random: np.random.Generator) -> Rows:
    """Draw y, and the offset of counts, from the linear part (rows, outputs)."""
    assert truth.intercept is not None
    z = linear + truth.intercept
    n = len(z)
    if settings.kind == "regression":
        return {"y": z[:, 0] + settings.noise_level * random.standard_normal(n)}
    if settings.kind == "counts":
        offset = np.log(random.uniform(0.5, 2.0, n))
        log_rate = z[:, 0] + offset + settings.noise_level * random.standard_normal(n)
        return {"y": random.poisson(np.exp(np.minimum(log_rate, _LARGEST_LOG_RATE))), "offset": offset}
    return {"y": _labels(settings, z, random)}


def _labels(settings: Synthetic, z: _Floats, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw classes from the logistic model, and some at random."""
    n = len(z)
    at_random = random.random(n) < settings.noise_level
    drawn = random.integers(settings.classes, size=n)
    if settings.classes == 2:
        y = (z[:, 0] + random.logistic(size=n) > 0.0).astype(np.int64)
    else:
        y = np.argmax(z + random.gumbel(size=z.shape), axis=1)
    return np.where(at_random, drawn, y)


def _cells(settings: Synthetic, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of a block that are not zero, in order: each with probability `density`.

    Gaps between them are geometric: whole parts of exponential numbers.
    """
    n_cells = settings.block_rows * settings.features
    random = generator(settings.seed, "positions", block)
    with np.errstate(divide="ignore"):
        pace = -np.log1p(-settings.density)
    expected = n_cells * settings.density
    step = int(expected + 6.0 * np.sqrt(expected)) + 16
    parts: list[NDArray[np.int64]] = []
    last = -1
    while last < n_cells:
        gaps = np.minimum(random.standard_exponential(step) / pace, float(n_cells)).astype(np.int64) + 1
        parts.append(last + np.cumsum(gaps))
        last = int(parts[-1][-1])
    cells = np.concatenate(parts)
    rows, columns = np.divmod(cells[: np.searchsorted(cells, n_cells)], settings.features)
    return rows, columns


def count_entries(settings: Synthetic, block: int) -> NDArray[np.int64]:
    """Return the entries of each row of a block. Local."""
    rows, _ = _cells(settings, block)
    return np.bincount(rows, minlength=settings.block_rows)[: _rows_in(settings, block)]


def _values(settings: Synthetic, block: int, n: int) -> _Floats:
    return generator(settings.seed, "features", block).standard_normal(n)


def sparse_block(settings: Synthetic, block: int) -> Entries:
    """Return X of a block in CSR form, columns in order. Local."""
    rows, columns = _cells(settings, block)
    n = int(np.searchsorted(rows, _rows_in(settings, block)))
    data = _values(settings, block, rows.size)[:n].astype(settings.dtype, copy=False)
    return Entries(data, columns[:n].astype(np.int32))


def sparse_columns(settings: Synthetic, truth: Truth, block: int) -> Rows:
    """Return the columns of a block whose X is in CSR form. Local; y follows from float64 values."""
    assert truth.coef is not None
    rows, columns = _cells(settings, block)
    data = _values(settings, block, rows.size)
    n = settings.block_rows
    sums = [np.bincount(rows, data * coef[columns], n) for coef in truth.coef]
    linear = np.stack(sums, axis=1).astype(np.float64, copy=False)  # without entries they are integers
    random = generator(settings.seed, "labels", block)
    return _finished(settings, block, _responses(settings, truth, linear, random))
