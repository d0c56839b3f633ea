"""Singular values and vectors, and how many of them a model keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.signs import with_fixed_signs
from hpcml.errors import DataError, shared

__all__ = [
    "Spectrum",
    "Wanted",
    "check_number",
    "count",
    "digits_left",
    "from_factor",
    "from_products",
    "n_independent",
]

Vector = NDArray[np.float64]
Wanted = int | float | str | None
_EPS = float(np.finfo(np.float64).eps)


class Spectrum(NamedTuple):
    """Singular values and right singular vectors of the rows, the same on every rank.

    Attributes
    ----------
    values : (m,) array
        In falling order.
    vectors : (m, n_features) array
        Orthonormal rows; the element of largest size of each is positive.
    error : float
        About the error of the squares of the values.
    """

    values: Vector
    vectors: NDArray[np.float64]
    error: float


def from_products(products: NDArray[np.float64]) -> Spectrum:
    """Return the spectrum from ``X^T X``. Local."""
    squares, vectors = np.linalg.eigh(products)
    squares = np.maximum(squares[::-1], 0.0)
    error = np.sqrt(squares.size) * _EPS * float(squares[0])
    return Spectrum(np.sqrt(squares), with_fixed_signs(vectors.T[::-1]), error)


def from_factor(R: NDArray[np.float64], basis: NDArray[np.float64] | None = None) -> Spectrum:
    """Return the spectrum from a triangular factor with ``R^T R = X^T X``. Local.

    Parameters
    ----------
    R : (rows, l) array
    basis : (n_features, l) array, optional
        What the columns of R stand for, if not the features.
    """
    _, values, vectors = np.linalg.svd(_at_least_square(R))
    vectors = vectors if basis is None else vectors @ basis.T
    error = np.square(values.size * _EPS * float(values[0]))
    return Spectrum(values, with_fixed_signs(vectors), error)


def _at_least_square(R: NDArray[np.float64]) -> NDArray[np.float64]:
    lacking = max(R.shape[1] - R.shape[0], 0)
    return np.concatenate([R, np.zeros((lacking, R.shape[1]))])


def n_independent(spectrum: Spectrum) -> int:
    """Return how many values are above their error. Local."""
    return int((np.square(spectrum.values) > spectrum.error).sum())


def digits_left(spectrum: Spectrum, k: int) -> float:
    """Return the decimal digits that the square of the k-th value has. Local."""
    square = float(np.square(spectrum.values[k - 1]))
    if spectrum.error == 0:
        return 16.0
    return float(np.log10(max(square / spectrum.error, 1.0)))


def count(wanted: Wanted, spectrum: Spectrum, n_samples: int, most: int) -> int:
    """Return how many components to keep. Local.

    Parameters
    ----------
    wanted : int, float, "mle" or None
        A number; the least number that hold more than this share of the variance; by Minka's rule; or all.
    spectrum : Spectrum
    n_samples : int
    most : int
        The smaller of the numbers of rows and columns.
    """
    if wanted is None:
        return most
    if isinstance(wanted, str):
        from hpcml.algorithms.decomposition.minka import likely_count  # few ask for it

        return likely_count(np.square(spectrum.values[:most]) / (n_samples - 1), n_samples)
    if isinstance(wanted, float) and 0 < wanted < 1:
        squares = np.square(spectrum.values[:most])
        shares = np.cumsum(squares / max(float(squares.sum()), 1e-300))
        return min(int(np.searchsorted(shares, wanted, side="right")) + 1, most)
    return int(wanted)


def check_number(wanted: Wanted, spectrum: Spectrum, shape: tuple[int, int], about: str) -> None:
    """Refuse a number of components that the rows do not have.

    Raises
    ------
    DataError
        It says the rank. On all ranks alike.
    """
    most = n_independent(spectrum)
    if isinstance(wanted, int) and wanted > most:
        n, d = shape
        sentence = f"X has rank {most}{about} (n_samples={n}, n_features={d})"
        raise shared(DataError(f"{sentence}: n_components={wanted} asks for more; take at most {most}"))
