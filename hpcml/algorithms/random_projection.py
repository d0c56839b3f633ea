"""Random projections: matrices that are made as they are needed, and never kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.data import Matrix, is_csr

__all__ = [
    "GaussianMatrix",
    "RandomMatrix",
    "SparseMatrix",
    "components",
    "johnson_lindenstrauss_min_dim",
    "project",
]

GROUP = 64
"""Features that share a key."""
ROWS = 256
"""Dense rows of a product: other shapes may have other bits."""
SLAB_BYTES = 32 << 20


def johnson_lindenstrauss_min_dim(n_samples: Any, *, eps: Any = 0.1) -> Any:
    """Return the number of components that keeps all distances of n rows, ``4 ln n / (eps^2/2 - eps^3/3)``.

    Local. Squared distances then keep within a factor of ``1 - eps`` and ``1 + eps``, most probably.

    Parameters
    ----------
    n_samples : int or array of int
    eps : float or array of float
        In (0, 1).

    Returns
    -------
    int or array of int

    Raises
    ------
    ValueError
        A number that is out of range.

    References
    ----------
    Dasgupta and Gupta 2003, doi:10.1002/rsa.10073.
    """
    eps, n_samples = np.asarray(eps), np.asarray(n_samples)
    if ((eps <= 0) | (eps >= 1)).any():
        raise ValueError(f"eps must be above 0 and below 1, not {eps}")
    if (n_samples <= 0).any():
        raise ValueError(f"n_samples must be above 0, not {n_samples}")
    return (4 * np.log(n_samples) / (eps**2 / 2 - eps**3 / 3)).astype(np.int64)


class RandomMatrix(Protocol):
    """A matrix of (n_features, n_components), by groups of features."""

    @property
    def n_features(self) -> int:
        """Rows of the matrix."""

    @property
    def n_components(self) -> int:
        """Columns of the matrix."""

    @property
    def density(self) -> float:
        """Expected share of the elements that are not zero."""

    def group(self, i: int) -> Matrix:
        """Return the rows of 64 features from 64 i on, fewer at the end. Local."""


@dataclass(frozen=True)
class GaussianMatrix:
    """Elements are independent, normal, of mean 0 and variance ``1 / n_components``, keyed by (seed, i).

    Parameters
    ----------
    n_features, n_components : int
    seed : int
    """

    n_features: int
    n_components: int
    seed: int = 0
    density: float = 1.0

    def group(self, i: int) -> Matrix:
        """Return the rows of one group. Local."""
        shape = _group_rows(self, i), self.n_components
        return _generator(self.seed, i).standard_normal(shape) / np.sqrt(self.n_components)


@dataclass(frozen=True)
class SparseMatrix:
    """Elements are ``+-1 / sqrt(density n_components)`` with chance `density`, else 0, keyed by (seed, i).

    Parameters
    ----------
    n_features, n_components : int
    density : float
        In (0, 1].
    seed : int

    References
    ----------
    Achlioptas 2003, doi:10.1016/S0022-0000(03)00025-4; Li, Hastie and Church 2006,
    doi:10.1145/1150402.1150436.
    """

    n_features: int
    n_components: int
    density: float
    seed: int = 0

    def group(self, i: int) -> Matrix:
        """Return the rows of one group as CSR. Local."""
        k, n_rows, random = self.n_components, _group_rows(self, i), _generator(self.seed, i)
        n_places = n_rows * k
        n = random.binomial(n_places, self.density) if self.density < 1 else n_places
        places = np.sort(random.choice(n_places, n, replace=False, shuffle=False))
        values = (2.0 * random.integers(0, 2, n) - 1.0) / np.sqrt(self.density * k)
        indptr = np.searchsorted(places, np.arange(n_rows + 1) * k)
        return sparse.csr_array((values, places % k, indptr), shape=(n_rows, k))


def project(X: Matrix, matrix: RandomMatrix, borders: NDArray[np.int64] | None = None) -> Matrix:
    """Return ``X @ matrix``, (rows, n_components), in the dtype of X; CSR where both are sparse. Local.

    At most 32 MiB of the matrix are there at a time. Dense rows are multiplied in double precision, in runs
    of the same shape, and sparse ones each by itself: a row's bits do not depend on how many rows are given.

    Parameters
    ----------
    X : (rows, n_features) array or CSR
    matrix : RandomMatrix
    borders : array of int64, optional
        Of the runs of dense rows; by default of 256.
    """
    total = None
    for start, slab in _slabs(matrix):
        part = _product(X[:, start : start + slab.shape[0]], slab, borders)
        total = part if total is None else total + part
    assert total is not None
    return total.astype(X.dtype, copy=False)


def components(matrix: RandomMatrix) -> Matrix:
    """Return the transpose of the whole matrix, (n_components, n_features). Local."""
    whole = _joined([slab for _, slab in _slabs(matrix)]).T
    return sparse.csr_array(whole) if sparse.issparse(whole) else np.ascontiguousarray(whole)


def _group_rows(matrix: RandomMatrix, i: int) -> int:
    return min(GROUP, matrix.n_features - i * GROUP)


def _generator(seed: int, i: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, i], np.uint64)))


def _slabs(matrix: RandomMatrix) -> Iterator[tuple[int, Any]]:
    """Yield the matrix by runs of groups, and the first feature of each."""
    group_bytes = 8 * GROUP * matrix.n_components * matrix.density
    several = max(1, int(SLAB_BYTES / group_bytes))
    n_groups = -(-matrix.n_features // GROUP)
    for first in range(0, n_groups, several):
        groups = [matrix.group(i) for i in range(first, min(first + several, n_groups))]
        yield first * GROUP, _joined(groups)


def _joined(groups: list[Any]) -> Any:
    return sparse.vstack(groups, format="csr") if is_csr(groups[0]) else np.concatenate(groups)


def _product(X: Any, slab: Any, borders: NDArray[np.int64] | None) -> Any:
    if is_csr(X) or is_csr(slab):
        return X @ slab.astype(X.dtype, copy=False)
    n = X.shape[0]
    if borders is None:
        borders = np.append(np.arange(0, n, ROWS), n)
    out = np.empty((n, slab.shape[1]))
    for start, stop in pairwise(borders.tolist()):
        out[start:stop] = (_padded(X[start:stop]) @ slab)[: stop - start]
    return out


def _padded(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows in double precision, and zeros up to a multiple of 256 rows."""
    rows = np.zeros((-(-X.shape[0] // ROWS) * ROWS, X.shape[1]))
    rows[: X.shape[0]] = X
    return rows
