"""Statistics of the columns of a data set in one pass, to the same bits for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.statistics_moments import Moments, ShardRecord, no_moments, shard_records
from hpcml.algorithms.statistics_products import (
    Products,
    correlations_of,
    reduce_products,
    shard_products,
)
from hpcml.collectives import Communicator, agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Dataset
from hpcml.errors import DataError, shared

__all__ = [
    "ColumnStatistics",
    "Pair",
    "ShardRecord",
    "Summary",
    "merge_records",
    "shard_records",
    "summarize",
]

Vector = NDArray[np.float64]
T = TypeVar("T")
MAX_CORRELATED = 4096
_MAX_LABELS = 1000
_KEEP_BYTES = 1 << 28


class ColumnStatistics(NamedTuple):
    """Statistics of columns, each (columns,); NaN are left out and counted.

    Attributes
    ----------
    weight, mean, variance : float64
        ``sum w``, ``sum w x / sum w`` and ``sum w (x - mean)^2 / sum w``; NaN where nothing weighs.
    low, high : float64
        Least and largest number, whatever its weight; NaN where there is none.
    n_nan, n_zero : int64
        Rows.
    """

    weight: Vector
    mean: Vector
    variance: Vector
    low: Vector
    high: Vector
    n_nan: NDArray[np.int64]
    n_zero: NDArray[np.int64]

    @property
    def deviation(self) -> Vector:
        """Square root of the variance. Local."""
        return np.asarray(np.sqrt(self.variance))

    def columns(self, which: slice) -> ColumnStatistics:
        """Return some of the columns. Local."""
        weight, mean, variance, low, high = (np.asarray(part[which], np.float64) for part in self[:5])
        return ColumnStatistics(weight, mean, variance, low, high, self.n_nan[which], self.n_zero[which])


class Pair(NamedTuple):
    """Two columns and their correlation."""

    first: int
    second: int
    correlation: float


class Summary(NamedTuple):
    """What `summarize` found, the same on every rank.

    Attributes
    ----------
    n_rows : int
    weight : float
        Sum of the weights, the number of rows where there are none.
    features : ColumnStatistics
    target : ColumnStatistics or None
        Of y, one column.
    labels : dict or None
        Rows by value of y, where its values are whole numbers and at most 1,000.
    covariance, correlation : (n_features, n_features) array or None
        Weighted like the variance. Where rows have NaN, each pair is over the rows that have both. A
        constant column has no correlation: NaN.
    """

    n_rows: int
    weight: float
    features: ColumnStatistics
    target: ColumnStatistics | None
    labels: dict[float, int] | None
    covariance: NDArray[np.float64] | None = None
    correlation: NDArray[np.float64] | None = None

    @property
    def most_correlated(self) -> Pair | None:
        """The two features with the largest ``|correlation|``, the first of equal ones, or None. Local."""
        if self.correlation is None:
            return None
        size = np.triu(np.nan_to_num(np.abs(self.correlation), nan=-1.0) + 1.0, 1)
        first, second = divmod(int(size.argmax()), size.shape[1])
        if size[first, second] == 0:
            return None
        return Pair(first, second, float(self.correlation[first, second]))


class _Kept(Generic[T]):
    """Records that are kept where they are few, and made again at each use where they are many."""

    def __init__(self, again: Callable[[], Iterator[T]]) -> None:
        self._again = again
        self._items: list[T] | None = []
        self._n_bytes = 0

    def add(self, item: T, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        if self._n_bytes > _KEEP_BYTES:
            self._items = None
        if self._items is not None:
            self._items.append(item)

    def __iter__(self) -> Iterator[T]:
        return self._again() if self._items is None else iter(self._items)


class _Sums(NamedTuple):
    """Weight, mean and m2 of the features and, last, of y; and the weight of all rows."""

    total: float
    weight: Vector
    mean: Vector
    m2: Vector


class _Ends:
    """What adds up, and the extremes, over the records so far; y is the last column."""

    def __init__(self, n_columns: int) -> None:
        none = no_moments(n_columns)
        self.low, self.high, self.n_nan, self.n_zero = none.low, none.high, none.n_nan, none.n_zero
        self.n_rows = self.has_y = 0
        self.labels: dict[float, int] | None = {}

    def add(self, record: ShardRecord) -> None:
        whole = _whole(record)
        self.n_rows += record.n_rows
        self.has_y |= int(record.target is not None)
        self.low, self.high = np.minimum(self.low, whole.low), np.maximum(self.high, whole.high)
        self.n_nan, self.n_zero = self.n_nan + whole.n_nan, self.n_zero + whole.n_zero
        self.labels = _added(self.labels, record.labels if record.target is not None else {})

    def reduced(self, comm: Communicator) -> None:
        """Take in the other ranks' records. Collective, four small messages."""
        counts = comm.allreduce(np.array([self.n_rows]), self.n_nan, self.n_zero)
        self.n_rows, self.n_nan, self.n_zero = int(counts[0][0]), counts[1], counts[2]
        self.high, low, has_y = comm.allreduce(self.high, -self.low, np.array([float(self.has_y)]), op="max")
        self.low, self.has_y = -low, int(has_y[0])
        everyone = comm.allgather(None if self.labels is None else sorted(self.labels.items()))
        self.labels = {}
        for one in everyone:
            self.labels = _added(self.labels, None if one is None else dict(one))


def summarize(data: Dataset, *, correlations: bool = False) -> Summary:
    """Return statistics of every feature and of y, and on request covariances and correlations.

    Collective: one pass, ten small messages, two more for correlations, of ``n_features^2`` numbers, or four
    times that where there are NaN. Each block's mean comes first and what deviates from it next, so a column
    of mean 1e8 and deviation 1 keeps its digits. Records take 64 bytes a feature and shard, products 8 a pair
    of features and shard: above 256 MiB a rank they are not kept, and the rows are read twice more.

    Parameters
    ----------
    data : Dataset
    correlations : bool
        For at most 4,096 features.

    Raises
    ------
    DataError
        No rows, rows that cannot be read, or too many features for correlations.
    """
    d = data.n_features
    if correlations and d > MAX_CORRELATED:
        sentence = f"correlations of {d:,} columns would take {d * d * 8 / 1e9:,.1f} GB; leave them out"
        raise shared(DataError(f"{sentence} (at most {MAX_CORRELATED:,} columns have them)"))
    records: _Kept[ShardRecord] = _Kept(lambda: _of_blocks(data, shard_records))
    products: _Kept[Products] = _Kept(lambda: _of_blocks(data, shard_products))
    ends = _Ends(d + 1)
    with agreed(data.comm):
        for block in data.blocks():
            for record in shard_records(block):
                ends.add(record)
                records.add(record, 64 * d)
            for found in shard_products(block) if correlations else ():
                products.add(found, found.n_bytes)
    summary, sums = _merged(data.comm, records, ends)
    return _with_products(data.comm, summary, sums, products) if correlations else summary


def merge_records(comm: Communicator, records: Iterable[ShardRecord], n_features: int) -> Summary:
    """Return the summary of shards whose records are at hand, as `summarize` gives it.

    Collective, ten small messages.

    Parameters
    ----------
    comm : Communicator
    records : iterable of ShardRecord
        Of this rank's shards, read more than once; every shard is some rank's, once.
    n_features : int
    """
    ends = _Ends(n_features + 1)
    for record in records:
        ends.add(record)
    return _merged(comm, records, ends)[0]


def _of_blocks(data: Dataset, make: Callable[..., Iterator[T]]) -> Iterator[T]:
    for block in data.blocks():
        yield from make(block)


def _whole(record: ShardRecord) -> Moments:
    """Return the features' columns and y's behind them."""
    a, b = record.features, record.target or no_moments(1)
    weight, mean, rest, m2, low, high = (np.concatenate(pair) for pair in zip(a[:6], b[:6], strict=True))
    n_nan, n_zero = np.concatenate([a.n_nan, b.n_nan]), np.concatenate([a.n_zero, b.n_zero])
    return Moments(weight, mean, rest, m2, low, high, n_nan, n_zero)


def _added(a: dict[float, int] | None, b: dict[float, int] | None) -> dict[float, int] | None:
    if a is None or b is None or len(merged := a.keys() | b.keys()) > _MAX_LABELS:
        return None
    return {label: a.get(label, 0) + b.get(label, 0) for label in sorted(merged)}


def _merged(comm: Communicator, records: Iterable[ShardRecord], ends: _Ends) -> tuple[Summary, _Sums]:
    """Return the summary, and the sums that it comes from. Collective."""
    ends.reduced(comm)
    if ends.n_rows == 0:
        raise shared(DataError("there are no rows to describe"))
    sums = _sums(comm, records, ends.low.size)
    found = _statistics(sums, ends)
    features, target = found.columns(slice(-1)), found.columns(slice(-1, None))
    if not ends.has_y:
        return Summary(ends.n_rows, sums.total, features, None, None), sums
    return Summary(ends.n_rows, sums.total, features, target, ends.labels), sums


def _sums(comm: Communicator, records: Iterable[ShardRecord], n: int) -> _Sums:
    """Merge what shards deviate by from their own means. Collective, four messages.

    ``m2 = sum_s m2_s + W_s (mean_s - mean)^2``, every term positive.
    """

    def weighed() -> Iterator[Vector]:
        for record in records:
            whole = _whole(record)
            moment = whole.weight * np.where(whole.weight > 0, whole.mean, 0.0)
            yield np.concatenate([np.array([record.weight]), whole.weight, moment])[None]

    first = reduce_partials(comm, weighed, 1 + 2 * n).total
    weight, moment = first[1 : 1 + n], first[1 + n :]
    mean = np.divide(moment, weight, out=np.full(n, np.nan), where=weight > 0)

    def spread() -> Iterator[Vector]:
        for record in records:
            whole = _whole(record)
            with np.errstate(invalid="ignore", over="ignore"):
                apart = whole.weight * np.square((whole.mean - mean) + whole.rest)
            yield (whole.m2 + np.where(whole.weight > 0, apart, 0.0))[None]

    return _Sums(float(first[0]), weight, mean, reduce_partials(comm, spread, n).total)


def _statistics(sums: _Sums, ends: _Ends) -> ColumnStatistics:
    _, weight, mean, m2 = sums
    with np.errstate(invalid="ignore"):
        variance = np.divide(m2, weight, out=np.full(mean.size, np.nan), where=weight > 0)
        # Rounding leaves a constant column a mean beside its number, and a little spread.
        constant = (ends.low == ends.high) & (weight > 0) & np.isfinite(ends.low)
    variance, mean = np.where(constant, 0.0, variance), np.where(constant, ends.low, mean)
    empty = ends.low > ends.high
    low, high = np.where(empty, np.nan, ends.low), np.where(empty, np.nan, ends.high)
    return ColumnStatistics(weight, mean, variance, low, high, ends.n_nan, ends.n_zero)


def _with_products(
    comm: Communicator, summary: Summary, sums: _Sums, products: Iterable[Products]
) -> Summary:
    """Add covariances and correlations. Collective, two messages."""
    features = summary.features
    center = np.nan_to_num(sums.mean[:-1], nan=0.0, posinf=0.0, neginf=0.0)
    totals = reduce_products(comm, products, center, bool(features.n_nan.any()))
    covariance, correlation = correlations_of(totals, summary.weight, features.low == features.high)
    return summary._replace(covariance=covariance, correlation=correlation)
