"""The triangular factor of all rows, by QR factorisations in a tree that the numbers of shards fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.reference import centered, look
from hpcml.algorithms.decomposition.tree import merge_in_tree
from hpcml.algorithms.kernels.rows import pieces
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset, is_csr
from hpcml.data.block import part_of

__all__ = ["Factor", "joined", "shard_factor", "tall_factor"]

Vector = NDArray[np.float64]
Triangle = NDArray[np.float64]


class Factor(NamedTuple):
    """What one pass finds, the same on every rank.

    Attributes
    ----------
    weight : float
        ``sum s``.
    mean : (n_features,) array
    R : (at most n_features, n_features) array
        With ``R^T R = sum s (x - mean) (x - mean)^T``.
    """

    weight: float
    mean: Vector
    R: Triangle


def tall_factor(data: Dataset) -> Factor:
    """Return the triangular factor of the rows less their mean.

    Collective: one pass, four small messages, and up to ``2 log2(n_shards)`` of at most d (d + 1) numbers.
    A column of ones goes first: ``[1, X - c] = Q [[r, t], [0, R]]`` has the mean in ``c + t / r``, and R is
    the factor of the rows less it. No products are formed, so singular values keep an error of rounding
    times the largest one. A rank holds up to ``2 log2(its shards)`` factors.

    Parameters
    ----------
    data : Dataset

    References
    ----------
    Demmel, Grigori, Hoemmen and Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34 (2012), doi:10.1137/080731992. Benson, Gleich and Demmel, "Direct
    QR factorizations for tall-and-skinny matrices in MapReduce architectures" (2013),
    doi:10.1109/BigData.2013.6691583.
    """
    center, weights = look(data, centers=True).center, list[Vector]()

    def leaves() -> Iterator[Triangle]:
        for block in data.blocks():
            weights.append(block.shard_sums(block.weights)[:, None])
            for i in range(block.n_shards):
                yield shard_factor(_with_ones(part_of(block, i), center), data.n_features + 1)

    # Fewer rows than columns came as they are.
    top = merge_in_tree(data, leaves(), joined, data.n_features + 1)
    R: Triangle = np.asarray(np.linalg.qr(top, mode="r"))
    total = reduce_partials(data.comm, lambda: weights, 1).total
    return Factor(float(total[0]), center + R[0, 1:] / R[0, 0], R[1:, 1:])


def _with_ones(shard: Block, center: Vector) -> Iterator[Triangle]:
    """Yield the weighted rows of each block of a shard behind a column of ones."""
    weights, is_moved = shard.weights, bool(center.any())
    for piece in pieces(shard):
        X = piece.X.toarray() if is_csr(piece.X) else piece.X
        rows = np.ones((X.shape[0], X.shape[1] + 1))
        rows[:, 1:] = centered(X, center, is_moved)
        yield rows * np.sqrt(weights[piece.rows])[:, None]


def shard_factor(blocks: Iterable[Triangle], width: int) -> Triangle:
    """Return the triangular factor of the rows of some blocks, or the rows where they are few. Local.

    Parameters
    ----------
    blocks : iterable of (any, width) array
    width : int

    Returns
    -------
    (at most width, width) array
    """
    factor, waiting, n_waiting = np.zeros((0, width)), list[Triangle](), 0
    for rows in blocks:
        waiting.append(rows)
        n_waiting += len(rows)
        if n_waiting >= 2 * width:  # fewer rows would be outweighed by the factor that they join
            factor, waiting, n_waiting = _triangle([factor, *waiting]), [], 0
    return _triangle([factor, *waiting])


def joined(first: Triangle, second: Triangle) -> Triangle:
    """Return the triangular factor of one above another, or the two where their rows are few. Local."""
    return _triangle([first, second])


def _triangle(parts: list[Triangle]) -> Triangle:
    rows = np.concatenate(parts)
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))
