"""Components that learn from one batch of rows after another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.spectrum import from_factor
from hpcml.algorithms.decomposition.tsqr import Factor

__all__ = ["Incremental", "no_rows", "updated"]

Vector = NDArray[np.float64]


class Incremental(NamedTuple):
    """What is known of all rows so far, the same on every rank.

    Attributes
    ----------
    n_rows : int
    mean : (n_features,) array
    squares : (n_features,) array
        ``sum (x - mean)^2`` of each column.
    components : (k, n_features) array
    singular_values : (k,) array
    noise : float
        Mean ``sigma^2`` of the components that the last batch left out.
    """

    n_rows: int
    mean: Vector
    squares: Vector
    components: NDArray[np.float64]
    singular_values: Vector
    noise: float


def no_rows(n_features: int) -> Incremental:
    """Return what is known before the first batch. Local."""
    zeros = np.zeros(n_features)
    return Incremental(0, zeros, zeros, np.zeros((0, n_features)), np.zeros(0), 0.0)


def updated(before: Incremental, batch: Factor, n_rows: int, k: int) -> Incremental:
    """Return the k largest components of the rows so far and a batch. Local.

    Those so far, the batch's triangular factor and a row for the way between the two means, one above the
    other, have the products of all rows but for what earlier batches left out.

    Parameters
    ----------
    before : Incremental
    batch : Factor
        Of the batch, by `tall_factor`.
    n_rows : int
        Of the batch.
    k : int

    References
    ----------
    Ross, Lim, Lin and Yang, "Incremental learning for robust visual tracking", Int. J. Comput. Vision 77
    (2008), doi:10.1007/s11263-007-0075-7.
    """
    total = before.n_rows + n_rows
    way = (before.mean - batch.mean) * np.sqrt(before.n_rows / total * n_rows)
    known = before.singular_values[:, None] * before.components
    spectrum = from_factor(np.concatenate([known, batch.R, way[None]]))
    n_values = min(len(known) + n_rows + int(before.n_rows > 0), way.size)
    left = np.square(spectrum.values[k:n_values])
    return Incremental(
        n_rows=total,
        mean=before.mean + (batch.mean - before.mean) * (n_rows / total),
        squares=before.squares + np.square(batch.R).sum(axis=0) + np.square(way),
        components=spectrum.vectors[:k],
        singular_values=spectrum.values[:k],
        noise=float(left.mean()) if left.size else 0.0,
    )
