"""How well centres fit the rows of all processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.draws import draws_by, ones_of
from hpcml.algorithms.clustering.least_rows import FewRows, least_rows
from hpcml.algorithms.kernels.nearest import lloyd_sums, nearest
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, Dataset
from hpcml.errors import DataError, shared

__all__ = ["inertia", "silhouette"]

Vector = NDArray[np.float64]
_START = 1 << 24
"""Of the numbers that a sample is drawn by: no start of a fit has it."""


def inertia(data: Dataset, centers: NDArray[np.float64]) -> float:
    """Return ``sum s |x - c|^2`` over all rows and their nearest centres. Collective, one pass, two messages.

    Parameters
    ----------
    data : Dataset
    centers : (k, n_features) array
    """

    def statistics(block: Block) -> Iterator[Vector]:
        # The sums of a fit's pass, so that its own inertia comes out again to the bit.
        for sums in lloyd_sums(block, centers):
            yield sums[:, -1:]

    return float(reduce_blocks(data, statistics, 1).total[0])


def silhouette(data: Dataset, centers: NDArray[np.float64], *, n_rows: int = 2000, seed: int = 0) -> float:
    """Return the mean silhouette ``(b - a) / max(a, b)`` of a sample of the rows.

    a is a row's mean distance to the sampled rows of its own cluster, b the least mean distance to those of
    another one, labels being nearest centres; a row that is its cluster's only one counts 0 (Rousseeuw 1987,
    doi:10.1016/0377-0427(87)90125-7). The sample is keyed by `seed` and the rows' numbers; rows of weight
    zero are not in it, other weights do not count.

    Collective, one pass and three messages; then every process does ``n_rows^2 n_features`` operations.

    Parameters
    ----------
    data : Dataset
    centers : (k, n_features) array
    n_rows : int
        Rows of the sample; all rows, if there are no more.
    seed : int

    Raises
    ------
    DataError
        The rows of the sample are in one cluster, or in as many as there are rows.
    """
    (rows,) = least_rows(data, n_rows, [draws_by(ones_of, seed, _START, 0)])
    _, labels = np.unique(_labels(rows, centers), return_inverse=True)
    sizes = np.bincount(labels)
    if not 1 < sizes.size < len(rows.X):
        sentence = f"a silhouette needs 2 to {len(rows.X) - 1} clusters in its {len(rows.X)} rows"
        raise shared(DataError(f"{sentence}, and found {sizes.size}"))
    values = [_value(rows.X, i, labels, sizes) for i in range(len(rows.X))]
    return float(np.mean(values))


def _labels(rows: FewRows, centers: NDArray[np.float64]) -> NDArray[np.int32]:
    n = len(rows.X)
    borders = np.array([0, n])
    return nearest(Block(rows.X, None, None, 0, borders, borders), centers).labels


def _value(X: NDArray[np.float64], i: int, labels: NDArray[np.intp], sizes: NDArray[np.intp]) -> float:
    own = labels[i]
    if sizes[own] == 1:
        return 0.0
    distances = np.sqrt(np.square(X - X[i]).sum(axis=1))
    sums = np.bincount(labels, distances, sizes.size)
    a = sums[own] / (sizes[own] - 1)
    means = sums / sizes
    means[own] = np.inf
    b = means.min()
    largest = max(a, b)
    return float((b - a) / largest) if largest > 0 else 0.0
