"""One record of statistics a shard: weight, mean, spread, extremes and counts of each column. All Local."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import Piece, pieces
from hpcml.data import Block, Matrix, is_csr

__all__ = ["Moments", "ShardRecord", "no_moments", "pieces_of_shards", "shard_records"]

Vector = NDArray[np.float64]
_MAX_LABELS = 1000


class Moments(NamedTuple):
    """Statistics of the columns of some rows; each is (columns,), NaN left out and counted.

    Attributes
    ----------
    weight, mean, rest, m2 : float64
        ``sum w``, ``sum w x / sum w`` as a double and what it lacks of the mean, and
        ``sum w (x - mean - rest)^2``. The mean of no weight is 0. Without `rest`, a mean of 1e8 would cost a
        deviation of 1 half of its digits wherever records are joined.
    low, high : float64
        Inf and -Inf where there is no number.
    n_nan, n_zero : int64
        Rows; rows without a stored entry are zeros.
    """

    weight: Vector
    mean: Vector
    rest: Vector
    m2: Vector
    low: Vector
    high: Vector
    n_nan: NDArray[np.int64]
    n_zero: NDArray[np.int64]


class ShardRecord(NamedTuple):
    """What one shard adds to a summary.

    Attributes
    ----------
    n_rows : int
    weight : float
    features : Moments
    target : Moments or None
        Of y, one column; None without y.
    labels : dict or None
        Rows by value of y; None where it has fractions, or more than 1,000 values.
    """

    n_rows: int
    weight: float
    features: Moments
    target: Moments | None
    labels: dict[float, int] | None


def no_moments(n_columns: int) -> Moments:
    """Return the record of no rows."""
    zeros, none = np.zeros(n_columns), np.zeros(n_columns, np.int64)
    empty = np.full(n_columns, np.inf)
    return Moments(zeros, zeros, zeros, zeros, empty, -empty, none, none)


def pieces_of_shards(block: Block) -> Iterator[list[Piece]]:
    """Yield the blocks of each shard of a run, empty ones included, in order."""
    by_shard = {shard: list(group) for shard, group in groupby(pieces(block), lambda piece: piece.shard)}
    for shard in range(block.n_shards):
        yield by_shard.get(shard, [])


def shard_records(block: Block) -> Iterator[ShardRecord]:
    """Yield one record for each shard of a run, empty ones included, in order."""
    weights, y, d = block.weights, block.y, block.X.shape[1]
    totals = block.shard_sums(weights).tolist()
    borders = block.shards.tolist()
    for i, parts in enumerate(pieces_of_shards(block)):
        records = [_moments(piece.X, weights[piece.rows]) for piece in parts]
        features = reduce(_joined, records) if records else no_moments(d)
        rows = slice(borders[i], borders[i + 1])
        target = None if y is None else _of_target(y[rows], weights[rows])
        labels = None if y is None else _labels(y[rows])
        yield ShardRecord(rows.stop - rows.start, totals[i], features, target, labels)


def _of_target(y: Vector, weight: Vector) -> Moments:
    return _moments(y[:, None], weight) if y.size else no_moments(1)


def _labels(y: Vector) -> dict[float, int] | None:
    values, counts = np.unique(y[~np.isnan(y)] + 0.0, return_counts=True)  # -0.0 is 0.0
    if values.size > _MAX_LABELS or not (values == np.rint(values)).all():
        return None
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _joined(a: Moments, b: Moments) -> Moments:
    """Return the record of the rows of both.

    Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115.
    """
    weight = a.weight + b.weight
    share = np.divide(b.weight, weight, out=np.zeros_like(weight), where=weight > 0)
    with np.errstate(invalid="ignore", over="ignore"):  # columns with Inf
        together = a.mean + b.mean
        finite = np.isfinite(together)
        apart = np.where((share > 0) & (share < 1), (b.mean - a.mean) + (b.rest - a.rest), 0.0)
        base, step = (
            np.where(share == 1, b.mean, a.mean),
            np.where(share == 1, b.rest, a.rest + apart * share),
        )
        mean = np.where(finite, base + step, together)
        rest = np.where(finite, step - (mean - base), 0.0)
        m2 = a.m2 + b.m2 + np.square(apart) * a.weight * share
    low, high = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
    return Moments(weight, mean, rest, m2, low, high, a.n_nan + b.n_nan, a.n_zero + b.n_zero)


def _moments(X: Matrix, weight: Vector) -> Moments:
    """Return the record of one block: the mean first, and then, from the cache, what deviates from it."""
    found = _of_csr(X, weight) if is_csr(X) else _of_dense(np.asarray(X), weight)
    return found._replace(low=found.low + 0.0, high=found.high + 0.0)  # -0.0 is 0.0


def _mean(sums: Vector, weight: Vector) -> Vector:
    return np.divide(sums, weight, out=np.zeros_like(sums), where=weight > 0)


def _spread(first: Vector, second: Vector, weight: Vector) -> tuple[Vector, Vector]:
    """Return rest and m2 from the sums of ``w z`` and ``w z^2``, ``z = x - mean`` with a rounded mean."""
    rest = np.where(np.isfinite(first), _mean(first, weight), 0.0)
    return rest, np.maximum(second - weight * np.square(rest), 0.0)


def _of_dense(X: NDArray[Any], weight: Vector) -> Moments:
    with np.errstate(invalid="ignore", over="ignore"):
        sums = weight @ X
        # A sum is NaN wherever an element is, and a product with BLAS is far cheaper than a mask.
        if np.isnan(sums).any() and np.isnan(X).any():
            return _of_gaps(X, weight)
        total = np.full(X.shape[1], weight.sum())
        mean = _mean(sums, total)
        z = X - mean
        first = weight @ z
        rest, m2 = _spread(first, weight @ np.square(z, out=z), total)
    low, high = (np.asarray(ends, np.float64) for ends in (X.min(axis=0), X.max(axis=0)))
    return Moments(total, mean, rest, m2, low, high, np.zeros(mean.size, np.int64), _zeros(X))


def _zeros(X: NDArray[Any]) -> NDArray[np.int64]:
    # Where they are few, which is where it matters, this is far cheaper than sums of a mask.
    places = np.flatnonzero(X == 0)
    return np.bincount(places % X.shape[1], minlength=X.shape[1])


def _of_gaps(X: NDArray[Any], weight: Vector) -> Moments:
    """Return the record of dense rows with NaN."""
    gaps = np.isnan(X)
    filled = np.where(gaps, 0.0, X)
    total = np.asarray(weight @ ~gaps, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = _mean(weight @ filled, total)
        z = np.where(gaps, 0.0, X - mean)
        rest, m2 = _spread(weight @ z, weight @ np.square(z), total)
    low = np.where(gaps, np.inf, X).min(axis=0)
    high = np.where(gaps, -np.inf, X).max(axis=0)
    return Moments(total, mean, rest, m2, low, high, _counts(gaps), _counts(X == 0))


def _counts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(mask.sum(axis=0), np.int64)


def _of_csr(X: Any, weight: Vector) -> Moments:
    """Return the record of CSR rows: what is stored, and the zeros apart."""
    n, d = X.shape
    gaps = np.isnan(X.data)
    values, columns = np.asarray(X.data[~gaps], np.float64), X.indices[~gaps]
    by_entry = np.repeat(weight, np.diff(X.indptr))
    n_nan = np.bincount(X.indices[gaps], minlength=d)
    n_stored = np.bincount(columns, minlength=d)
    lost = np.bincount(X.indices[gaps], by_entry[gaps], d)
    by_entry = by_entry[~gaps]
    stored = np.bincount(columns, by_entry, d)
    full = n_stored + n_nan == n
    # A column without gaps has the weight of all rows, to the bit, as dense rows would.
    total = np.where(n_nan == 0, weight.sum(), np.where(full, stored, np.maximum(weight.sum() - lost, 0.0)))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = _mean(np.asarray(np.bincount(columns, by_entry * values, d), np.float64), total)
        absent = np.where(full, 0.0, np.maximum(total - stored, 0.0))
        z = values - mean[columns]
        first = -np.where(absent > 0, absent * mean, 0.0)
        second = np.where(absent > 0, absent * np.square(mean), 0.0)
        first += np.bincount(columns, by_entry * z, d)
        second += np.bincount(columns, by_entry * np.square(z), d)
        rest, m2 = _spread(first, second, total)
    low, high = np.where(full, np.inf, 0.0), np.where(full, -np.inf, 0.0)
    np.minimum.at(low, columns, values)
    np.maximum.at(high, columns, values)
    n_zero = n - n_stored - n_nan + np.bincount(columns[values == 0], minlength=d)
    return Moments(total, mean, rest, m2, low, high, n_nan, n_zero)
