"""A first look at one shard: a centre near the data, and how large columns are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.reduction import Ballot, Stream, reduce_stream
from hpcml.collectives.reproducible import Reduced
from hpcml.data import Block, Dataset, Matrix, is_csr
from hpcml.data.block import part_of
from hpcml.errors import DataError, shared

__all__ = ["TOO_LARGE", "Reference", "bounded_sum", "centered", "look", "product_window"]

Vector = NDArray[np.float64]
Window = NDArray[np.int64]
TOO_LARGE = "X has numbers so large that sums of their squares are no numbers: scale its columns"
_NEAR = 2.0
"""Deviations within which a mean costs a sum of squares about 0 two bits: then nothing is subtracted."""
_HEADROOM = 20
_DEEPEST = 40
_BELOW = 8


class Reference(NamedTuple):
    """What the first shard with rows says of the columns, the same on every rank.

    Attributes
    ----------
    center : (n_features,) array
        Its means; 0 where a mean is small beside the deviation, for CSR rows, and where none was asked for.
    size : (n_features,) array
        Root of the weighted sum of squares about the centre.
    weight : float
        Sum of the weights of its rows.
    is_sparse : bool
        Rows are CSR: then the centre stays at 0.
    """

    center: Vector
    size: Vector
    weight: float
    is_sparse: bool


def look(data: Dataset, *, centers: bool) -> Reference:
    """Return the reference of a data set. Collective, two small messages.

    Parameters
    ----------
    data : Dataset
    centers : bool
        Choose a centre; False leaves it at 0.

    Raises
    ------
    DataError
        Squares of the first rows overflow.
    """
    mine = next(_shards_with_rows(data), None)
    shard = data.partition.n_shards if mine is None else mine[0]
    (first,) = data.comm.allreduce(np.array([shard]), op="min")
    d = data.n_features
    found = np.zeros(2 * d + 2)
    if mine is not None and shard == first[0]:
        block = mine[1]
        found[:] = np.concatenate([*_of_shard(block, centers), [block.weights.sum(), is_csr(block.X)]])
    (total,) = data.comm.allreduce(found)
    if not np.isfinite(total).all():
        raise shared(DataError(TOO_LARGE))
    return Reference(total[:d], total[d : 2 * d], float(total[-2]), bool(total[-1]))


def _shards_with_rows(data: Dataset) -> Iterator[tuple[int, Block]]:
    for block in data.blocks():
        shards = np.flatnonzero(np.diff(block.shards))
        if shards.size:
            yield block.start // data.partition.shard_rows + int(shards[0]), part_of(block, int(shards[0]))


def _of_shard(block: Block, centers: bool) -> tuple[Vector, Vector]:
    X, weights = block.X, block.weights
    if is_csr(X):
        squares = np.repeat(weights, np.diff(X.indptr)) * np.square(X.data, dtype=np.float64)
        return np.zeros(X.shape[1]), np.sqrt(np.bincount(X.indices, squares, X.shape[1]))
    # Rounding must not leave a constant column beside its value.
    mean = np.clip(X.mean(axis=0, dtype=np.float64), X.min(axis=0), X.max(axis=0))
    is_far = np.abs(mean) > _NEAR * X.std(axis=0, dtype=np.float64, mean=mean)
    center = np.where(is_far & centers, mean, 0.0)
    return center, np.sqrt(weights @ np.square(X - center))


def centered(X: Matrix, center: Vector, is_moved: bool) -> Matrix:
    """Return dense rows less the centre, or the rows as they are where it is all 0. Local."""
    return X - center if is_moved and not is_csr(X) else X


def product_window(first: Vector, second: Vector) -> Window:
    """Return windows for sums of products of columns of these sizes, (first.size, second.size). Local.

    By Cauchy and Schwarz a product is at most the product of the sizes; the headroom is for shards whose
    columns are larger.
    """
    return np.asarray(_exponents(first)[:, None] + _exponents(second) + _HEADROOM, np.int64)


def _exponents(size: Vector) -> Window:
    """Return powers of two above the sizes; columns of no size may have one elsewhere."""
    exponents = np.frexp(size)[1].astype(np.int64)
    top = int(exponents[size > 0].max(initial=-480))
    exponents[size == 0] = top
    return np.maximum(exponents, top - _DEEPEST)


def bounded_sum(data: Dataset, terms: Stream, window: Window, ballot: Ballot | None = None) -> Reduced:
    """Sum terms over all ranks in one pass, by windows that are known before it.

    Collective, one message; three, and two more passes, where a term is above its window. The error is below
    2^-64 of an element's window without its headroom, however small its terms.

    Parameters
    ----------
    data : Dataset
    terms : callable
        Takes the blocks of a pass and yields arrays (any, n).
    window : (n,) array of int64
    ballot : Ballot, optional
    """
    window = np.clip(window, -900, 1024)
    # A term and its opposite: the sum without them, but a window far above all terms is then taken as it is.
    bound = np.ldexp(1.0, window - _BELOW)

    def with_bound(blocks: Iterator[Block]) -> Iterator[Vector]:
        yield np.stack([bound, -bound])
        yield from terms(blocks)

    return reduce_stream(data, with_bound, window.size, window=window, ballot=ballot)
