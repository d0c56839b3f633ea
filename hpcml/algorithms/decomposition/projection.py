"""What follows from components: rows in their coordinates and back, covariance and likelihood. All Local."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.decompose import Decomposition
from hpcml.algorithms.kernels.rows import pieces
from hpcml.data import Block, Matrix, is_csr

__all__ = [
    "Density",
    "covariance",
    "log_likelihoods",
    "make_density",
    "precision",
    "project",
    "project_block",
    "restore",
]

Rows = NDArray[Any]


def project(model: Decomposition, X: Matrix, *, whiten: bool = False) -> Rows:
    """Return ``(X - mean) @ components.T``, (rows, k); whitened, divided by the components' deviations.

    CSR rows stay sparse.
    """
    rows = np.asarray(X @ model.components.T) - model.mean @ model.components.T
    return rows / _deviations(model) if whiten else rows


def project_block(model: Decomposition, block: Block, *, whiten: bool = False) -> Rows:
    """Return `project` of a block's rows, whose bits do not depend on how rows are cut into runs."""
    parts = [project(model, piece.X, whiten=whiten) for piece in pieces(block)]
    return np.concatenate([np.zeros((0, len(model.components))), *parts])


def restore(model: Decomposition, rows: Rows, *, whiten: bool = False) -> Rows:
    """Return the rows, (rows, n_features), that lie in the components' span at these coordinates."""
    scaled = rows * _deviations(model) if whiten else rows
    return np.asarray(scaled @ model.components + model.mean)


def _deviations(model: Decomposition) -> NDArray[np.float64]:
    deviations = np.sqrt(model.explained_variance)
    # A component without variance is left as it is, nearly 0.
    return np.maximum(deviations, np.finfo(np.float64).eps)


def covariance(model: Decomposition) -> NDArray[np.float64]:
    """Return the covariance of the model ``C^T diag(v - noise) C + noise I``, (n_features, n_features)."""
    above = np.maximum(model.explained_variance - model.noise_variance, 0.0)
    found = (model.components.T * above) @ model.components
    found[np.diag_indices_from(found)] += model.noise_variance
    return np.asarray(found)


def precision(model: Decomposition) -> NDArray[np.float64]:
    """Return the inverse of the covariance of the model, a pseudo-inverse where it has none."""
    noise, d = model.noise_variance, model.mean.size
    if noise == 0.0 or not (model.explained_variance > 0).all():
        return np.asarray(np.linalg.pinv(covariance(model), hermitian=True))
    # The components are orthonormal: the inverse has them too.
    change = 1 / np.maximum(model.explained_variance, noise) - 1 / noise
    return np.eye(d) / noise + (model.components.T * change) @ model.components


class Density(NamedTuple):
    """A normal distribution: its mean, inverse covariance, and ``log det(2 pi covariance)``."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    volume: float


def make_density(model: Decomposition) -> Density:
    """Return the density of probabilistic principal components.

    References
    ----------
    Tipping and Bishop, "Probabilistic principal component analysis", J. R. Stat. Soc. B 61 (1999).
    """
    found = precision(model)
    volume = model.mean.size * np.log(2 * np.pi) - np.linalg.slogdet(found)[1]
    return Density(model.mean, found, float(volume))


def log_likelihoods(density: Density, X: Matrix) -> NDArray[np.float64]:
    """Return the log-likelihood of each row, (rows,)."""
    moved = (X.toarray() if is_csr(X) else X) - density.mean
    return np.asarray(-0.5 * (np.einsum("ij,ij->i", moved @ density.precision, moved) + density.volume))
