"""The nearest of some centres to each row, and what each centre's rows add up to. All Local.

The squared distance of a row to a centre, ``sum_j (x_j - c_j)^2`` in double precision, depends on these two
alone: on no other row, no other centre and no block, and with the compiled kernels on no instruction set.
A row's label is the centre of the least such distance, the first of equals.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.centers import Panels, make_panels
from hpcml.algorithms.kernels.choice import chosen
from hpcml.algorithms.kernels.passes import compiled_rows, is_compiled, module, runs
from hpcml.algorithms.kernels.rows import Piece, pieces
from hpcml.data import Block, Matrix, is_csr

__all__ = ["Nearest", "bounded_sums", "cluster_sums", "lloyd_sums", "n_cluster_sums", "nearest"]

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
    if is_compiled(block.X):
        panels, found = _panels(centers, is_csr(block.X)), (labels, distances, None, None)
        module().nearest(chosen(), compiled_rows(block.X), block.shards, None, panels, found, None)
        return Nearest(labels, distances)
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
    width = n_cluster_sums(k, block.X.shape[1])
    if is_compiled(block.X):
        yield from _compiled_sums(block, found, k, width)
        return
    out, weights = np.zeros((block.n_shards, width)), block.weights
    for piece in pieces(block):
        out[piece.shard] += _sums(piece, weights[piece.rows], found, k)
    yield out


def lloyd_sums(block: Block, centers: Vector) -> Iterator[Vector]:
    """Yield what `cluster_sums` gives for the nearest of the centres, in one pass that keeps no labels.

    Parameters
    ----------
    block : Block
    centers : (k, n_features) array
    """
    if not is_compiled(block.X):
        yield from cluster_sums(block, nearest(block, centers), len(centers))
    else:
        width, panels = n_cluster_sums(*centers.shape), _panels(centers, is_csr(block.X))
        for run in runs(block, 8 * width):
            out = np.empty((run.n_shards, width))
            rows, found = compiled_rows(run.X), (None, None, None, None)
            module().nearest(chosen(), rows, run.shards, run.weight, panels, found, out)
            yield out


def bounded_sums(
    block: Block,
    panels: Panels,
    labels: NDArray[np.int32],
    lower: NDArray[np.float32],
    ways: NDArray[np.float32],
) -> Vector:
    """Return what `lloyd_sums` yields, (n_shards, k (d + 1) + 1), by bounds where they are known.

    Parameters
    ----------
    block : Block
        That the compiled kernels take.
    panels : Panels
        Centres.
    labels : (rows,) array
        Of an earlier pass, -1 for rows that are not known; then of this one. Written.
    lower : (rows * groups + 16,) array
        Below the distance to any centre of a group but the row's own, scaled, plus the group's way at that
        time. Written. The last 16 numbers are read, but mean nothing.
    ways : (groups,) array
        How far the centre of a group that moves farthest has gone since the first pass, at least; scaled.
    """
    out = np.empty((block.n_shards, n_cluster_sums(len(panels.at), block.X.shape[1])))
    found = (labels, None, lower, ways)
    module().nearest(chosen(), compiled_rows(block.X), block.shards, block.weight, panels, found, out)
    return out


def n_cluster_sums(k: int, d: int) -> int:
    """Return the number of sums in a partial over k centres and d features."""
    return k * (d + 1) + 1


def _panels(centers: Vector, is_sparse: bool) -> Panels:
    return _known_panels(np.ascontiguousarray(centers, np.float64).tobytes(), len(centers), is_sparse)


@lru_cache(4)
def _known_panels(centers: bytes, k: int, is_sparse: bool) -> Panels:
    """Return panels once for all blocks of a pass: small blocks cost less than making them."""
    return make_panels(np.frombuffer(centers).reshape(k, -1), is_sparse)


def _compiled_sums(block: Block, found: Nearest, k: int, width: int) -> Iterator[Vector]:
    start = 0
    for run in runs(block, 8 * width):
        rows, out = slice(start, start := start + run.n_rows), np.empty((run.n_shards, width))
        squared = found.labels[rows], found.distances[rows]
        module().cluster_sums(chosen(), compiled_rows(run.X), run.shards, run.weight, *squared, k, out)
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
