"""Sums of products of columns over a shard, and the covariances and correlations of all of them.

A shard's sums are about a centre of its own, so that a column far from zero keeps its digits; they move to
another centre by ``(x - m) = (x - c) + (c - m)``. With gaps, every pair of columns is over the rows that have
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.algorithms.kernels.rows import Piece, gram
from hpcml.algorithms.statistics_moments import pieces_of_shards
from hpcml.collectives import Communicator
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Matrix, is_csr

__all__ = ["Products", "correlations_of", "reduce_products", "shard_products"]

Vector = NDArray[np.float64]
Square = NDArray[np.float64]
_ROUNDING = 1e-12


class Products(NamedTuple):
    """Sums over the rows of a shard, of ``z = x - center``.

    Attributes
    ----------
    center : (d,) array
    weight : (1, 1) or (d, d) array
        ``sum w`` over the rows that have both columns.
    sums, squares : (d, 1) or (d, d) array
        ``sum w z_i`` and ``sum w z_i^2`` over the rows that have column j too.
    products : (d, d) array
        ``sum w z_i z_j``.
    """

    center: Vector
    weight: Square
    sums: Square
    squares: Square
    products: Square

    @property
    def n_bytes(self) -> int:
        """Memory that it takes. Local."""
        return sum(part.nbytes for part in self)


def _about(found: Products, center: Vector, pairwise: bool) -> Vector:
    """Return the sums about another centre as a row of numbers: products, or all four where pairs differ."""
    step = (found.center - center)[:, None]
    weight, sums, squares, products = found[1:]
    crossed = sums * step.T
    moved = products + (crossed + crossed.T) + weight * (step * step.T)
    if not pairwise:
        return moved.ravel()
    parts = (weight, sums + weight * step, squares + 2 * sums * step + weight * np.square(step), moved)
    return np.concatenate([np.broadcast_to(part, moved.shape).ravel() for part in parts])


def shard_products(block: Block) -> Iterator[Products]:
    """Yield the sums of each shard of a run, empty ones included, in order. Local."""
    weights = block.weights
    for parts in pieces_of_shards(block):
        found = no_products(_center(parts[0].X) if parts else np.zeros(block.X.shape[1]))
        for piece in parts:
            with np.errstate(invalid="ignore", over="ignore"):  # columns with Inf
                more = _products(piece, weights[piece.rows], found.center)
            found = Products(found.center, *(a + b for a, b in zip(found[1:], more, strict=True)))
        yield found


def no_products(center: Vector) -> Products:
    """Return the sums of no rows. Local."""
    d = center.size
    return Products(center, np.zeros((1, 1)), np.zeros((d, 1)), np.zeros((d, 1)), np.zeros((d, d)))


def _center(X: Matrix) -> Vector:
    """Return the means of a shard's first block, and 0 for CSR columns that have zeros: those stay sparse."""
    n, d = X.shape
    if not is_csr(X):
        gaps = np.isnan(X)
        return _means(np.where(gaps, 0.0, X).sum(axis=0), n - gaps.sum(axis=0))
    gaps = np.isnan(X.data)
    full = np.bincount(X.indices, minlength=d) == n
    sums = np.bincount(X.indices, np.where(gaps, 0.0, X.data), d)
    return np.where(full, _means(sums, n - np.bincount(X.indices[gaps], minlength=d)), 0.0)


def _means(sums: NDArray[Any], counts: NDArray[Any]) -> Vector:
    """Return means, 0 where a number of them could not be used as a centre."""
    return np.asarray(np.nan_to_num(sums / np.maximum(counts, 1), posinf=0.0, neginf=0.0), np.float64)


def _products(piece: Piece, weight: Vector, center: Vector) -> tuple[Square, Square, Square, Square]:
    """Return weight, sums, squares and products of one block."""
    z = _centered(piece.X, center)
    gaps = _gaps(z)
    if gaps is not None:
        z = _filled(z)
    products, total = gram(z, weight), weight.sum().reshape(1, 1)
    sums = np.asarray(z.T @ weight)[:, None]
    squares = products.diagonal()[:, None].copy()
    if gaps is None:
        return total, sums, squares, products
    lost = np.asarray(gaps.T @ weight)[:, None]
    weights = total - (lost + lost.T) + gram(gaps, weight)
    squared = z.multiply(z).tocsr() if is_csr(z) else np.square(z)
    return weights, sums - _cross(z, weight, gaps), squares - _cross(squared, weight, gaps), products


def _cross(a: Matrix, weight: Vector, b: Matrix) -> Square:
    """Return ``a.T @ diag(weight) @ b``."""
    if not is_csr(a):
        return np.asarray((a * weight[:, None]).T @ b)
    return np.asarray((a.T @ (sparse.diags_array(weight) @ b)).toarray())


def _gaps(z: Matrix) -> Matrix | None:
    """Return ones where an element is NaN, or None."""
    if not is_csr(z):
        found = np.isnan(z)
        return found.astype(np.float64) if found.any() else None
    found = np.isnan(z.data)
    if not found.any():
        return None
    ones = sparse.csr_array((found.astype(np.float64), z.indices, z.indptr), shape=z.shape, copy=True)
    ones.eliminate_zeros()  # in place: the copy is its own
    return ones


def _filled(z: Matrix) -> Matrix:
    if not is_csr(z):
        return np.where(np.isnan(z), 0.0, z)
    return sparse.csr_array((np.where(np.isnan(z.data), 0.0, z.data), z.indices, z.indptr), shape=z.shape)


def _centered(X: Any, center: Vector) -> Any:
    """Return ``X - center``; a CSR column whose centre is not 0 becomes full."""
    if not is_csr(X):
        return X - center
    moved = np.flatnonzero(center)
    data = X.data - center[X.indices]
    z = sparse.csr_array((data, X.indices, X.indptr), shape=X.shape)
    if not moved.size:
        return z
    is_stored = sparse.csr_array((np.ones(X.nnz, bool), X.indices, X.indptr), shape=X.shape)
    row, place = np.nonzero(~is_stored[:, moved].toarray())
    if not row.size:
        return z
    absent = sparse.csr_array((-center[moved[place]], (row, moved[place])), shape=X.shape)
    return (z + absent).tocsr()


def reduce_products(
    comm: Communicator, products: Iterable[Products], center: Vector, pairwise: bool
) -> Square:
    """Sum over all shards about one centre: ``products``, or weight, sums, squares and products of pairs.

    Collective, two messages.

    Returns
    -------
    (1, d, d) or (4, d, d) array
    """
    d = center.size

    def partials() -> Iterator[Vector]:
        with np.errstate(invalid="ignore", over="ignore"):
            for found in products:
                yield _about(found, center, pairwise)[None]

    return reduce_partials(comm, partials, (4 if pairwise else 1) * d * d).total.reshape(-1, d, d)


def correlations_of(
    totals: Square, weight: float, constant: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return covariances and correlations; those of constant columns are 0 and NaN. Local."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        covariance, spread = _pairwise(*totals) if len(totals) == 4 else _complete(totals[0], weight)
        covariance[constant] = spread[constant] = 0.0
        covariance[:, constant] = spread[:, constant] = 0.0
        return covariance, np.where(spread > 0, np.clip(covariance / spread, -1.0, 1.0), np.nan)


def _complete(products: Square, weight: float) -> tuple[Square, Square]:
    """Return covariances, and the products of the two deviations."""
    covariance = products / weight
    deviation = np.sqrt(covariance.diagonal())
    return covariance, np.outer(deviation, deviation)


def _pairwise(weight: Square, sums: Square, squares: Square, products: Square) -> tuple[Square, Square]:
    """Return the same where each pair of columns has rows of its own."""
    mean, square = sums / weight, squares / weight
    variance = square - np.square(mean)
    # A column may be constant over the rows of one pair; rounding alone is no spread.
    deviation = np.sqrt(np.where(variance > _ROUNDING * square, variance, 0.0))
    return products / weight - mean * mean.T, deviation * deviation.T
