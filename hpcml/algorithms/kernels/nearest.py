"""The nearest of some centres to each row, and what each centre's rows add up to. All Local.

The squared distance of a row to a centre, ``sum_j (x_j - c_j)^2`` with j rising, in double precision, depends
on these two alone: on no other row, no other centre and no block. A row's label is the centre of the least
such distance, the first of equals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import Piece, pieces
from hpcml.data import Block, Matrix, is_csr

__all__ = ["Nearest", "cluster_sums", "nearest"]

Vector = NDArray[np.float64]


class Nearest(NamedTuple):
    """What is nearest to each row of a block.

    Attributes
    ----------
    labels : (rows,) array of int32
        Numbers of centres.
    distances : (rows,) array
        Squared, to these centres.
    """

    labels: NDArray[np.int32]
    distances: Vector


def nearest(block: Block, centers: Vector) -> Nearest:
    """Return the label of each row and its squared distance to that centre.

    Parameters
    ----------
    block : Block
    centers : (k, n_features) array, k >= 1
    """
    labels, distances = np.zeros(block.n_rows, np.int32), np.empty(block.n_rows)
    for piece in pieces(block):
        columns = _columns(piece.X)
        best = _squared(columns, centers[0])
        for i, center in enumerate(centers[1:], start=1):
            squared = _squared(columns, center)
            is_nearer = squared < best
            labels[piece.rows][is_nearer] = i
            best = np.where(is_nearer, squared, best)
        distances[piece.rows] = best
    return Nearest(labels, distances)


def cluster_sums(block: Block, found: Nearest, k: int) -> Iterator[Vector]:
    """Yield ``[sum s x of each centre's rows, sum s of them, sum s distance]``, (any, k (d + 1) + 1).

    One row for each shard in order, zeros for one without rows; s are the weights.

    Parameters
    ----------
    block : Block
    found : Nearest
        Of this block.
    k : int
        Number of centres.
    """
    out, weights = np.zeros((block.n_shards, k * (block.X.shape[1] + 1) + 1)), block.weights
    for piece in pieces(block):
        out[piece.shard] += _sums(piece, weights[piece.rows], found, k)
    yield out


def _sums(piece: Piece, weight: Vector, found: Nearest, k: int) -> Vector:
    labels = found.labels[piece.rows]
    sums = [np.bincount(labels, weight * column, k) for column in _columns(piece.X)]
    total = np.bincount(labels, weight, k)
    inertia = weight @ found.distances[piece.rows]
    return np.concatenate([np.stack(sums, axis=1).ravel(), total, [inertia]])


def _columns(X: Matrix) -> Vector:
    """Return the columns of a block as rows of doubles."""
    return np.asarray((X.toarray() if is_csr(X) else X).T, np.float64)


def _squared(columns: Vector, center: Vector) -> Vector:
    total = np.zeros(columns.shape[1])
    for column, value in zip(columns, center.tolist(), strict=True):
        total += np.square(column - value)
    return total
