"""Sums of products of all columns about their means, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.reference import Reference, bounded_sum, look, product_window
from hpcml.algorithms.kernels.passes import runs, shard_sums
from hpcml.algorithms.losses import Squared
from hpcml.algorithms.running_sums import unpacked
from hpcml.data import Block, Dataset

__all__ = ["Scatter", "scatter"]

Vector = NDArray[np.float64]
_FAR = 2.0**10
_RUN_SHARE = 4
"""Makes the copy of rows less their centre 1 MiB or one shard, so that it stays in the cache."""


class Scatter(NamedTuple):
    """Sums over all rows, the same on every rank.

    Attributes
    ----------
    weight : float
        ``sum s``.
    mean : (n_features,) array
    products : (n_features, n_features) array
        ``sum s (x - mean) (x - mean)^T``.
    """

    weight: float
    mean: Vector
    products: NDArray[np.float64]


def scatter(data: Dataset) -> Scatter:
    """Return the products of the columns about their means.

    Collective: one pass and three messages, the last of ``(d + 1)(d + 2) / 2 + d + 2`` sums. Columns are
    taken about a centre near them, and the products then move to the mean,
    ``sum s (x - c)(x - c)^T - W (m - c)(m - c)^T``; where the first shard was so unlike the others that this
    costs more than ten bits, a second pass is about the mean.

    Parameters
    ----------
    data : Dataset
    """
    reference = look(data, centers=True)
    found = _about(data, reference)
    step = found.mean - reference.center
    is_far = found.weight * np.square(step) > _FAR * np.diag(found.products)
    if reference.is_sparse or not is_far.any():
        return found
    size = np.maximum(reference.size, np.sqrt(np.diag(found.products)))
    return _about(data, reference._replace(center=found.mean, size=size))


def _about(data: Dataset, reference: Reference) -> Scatter:
    """Return the sums taken about a centre. Collective, one message."""
    d, center = data.n_features, reference.center
    is_moved, columns = bool(center.any()), np.arange(d)

    def terms(blocks: Iterator[Block]) -> Iterator[Vector]:
        for block in blocks:
            plain = replace(block, y=None, offset=None)
            for run in _moved(plain, center) if is_moved else [plain]:
                yield from shard_sums(run, Squared(), np.zeros(d), 0.0, columns)

    total = bounded_sum(data, terms, _windows(reference)).total
    weight = float(total[2 + d])
    sums, products = unpacked(total[3 + d :], d)
    step = sums / weight
    products -= weight * np.outer(step, step)
    diagonal = np.einsum("ii->i", products)
    np.maximum(diagonal, 0.0, out=diagonal)
    return Scatter(weight, center + step, products)


def _moved(block: Block, center: Vector) -> Iterator[Block]:
    """Yield runs of shards less the centre; CSR rows, whose centre is 0, have none."""
    copied = _RUN_SHARE * 8 * center.size * block.n_rows / max(block.n_shards, 1)
    for run in runs(block, max(copied, 1.0)):
        yield replace(run, X=run.X - center)


def _windows(reference: Reference) -> NDArray[np.int64]:
    """Return windows for the sums of a least-squares pass: a loss and its gradient, 0, come first."""
    root, size = np.sqrt([reference.weight]), reference.size
    # Weights have windows of their own: columns may be larger than they by any factor.
    window = np.block([[product_window(root, root), product_window(root, size)],
                       [product_window(size, root), product_window(size, size)]])  # fmt: skip
    return np.concatenate([np.zeros(2 + size.size, np.int64), window[np.triu_indices(1 + size.size)]])
