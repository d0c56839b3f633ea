"""What a pass of k-means sums up: the seam between the loop and the ways to find nearest centres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.nearest import lloyd_sums, n_cluster_sums
from hpcml.algorithms.kernels.passes import runs
from hpcml.data import Block

__all__ = ["Assignment", "Plain", "sums_of_all"]

Vector = NDArray[np.float64]


class Assignment(Protocol):
    """A way to find the nearest centre of each row; one object serves one start of a fit.

    It may remember what it found in a shard. A pass may be repeated with the same centres, and a pass
    that follows need not be the next one: what it gives depends on block and centres alone.
    """

    def sums(self, block: Block, centers: NDArray[np.float64]) -> Iterator[Vector]:
        """Yield ``[sum s x of each centre's rows, sum s of them, sum s distance]``, (any, k (d + 1) + 1).

        Local. One row for each shard in order, to the same bits whatever the way.
        """


class Plain:
    """All distances in every pass."""

    def sums(self, block: Block, centers: NDArray[np.float64]) -> Iterator[Vector]:
        """Yield the sums of each shard; see `Assignment`. Local."""
        yield from lloyd_sums(block, centers)


def sums_of_all(
    block: Block, assignments: Sequence[Assignment], centers: NDArray[np.float64]
) -> Iterator[Vector]:
    """Yield the sums of several starts side by side, (any, r (k (d + 1) + 1)), for each shard. Local.

    Parameters
    ----------
    block : Block
    assignments : sequence of Assignment
    centers : (r, k, n_features) array
    """
    r, k, d = centers.shape
    if r == 1:
        yield from assignments[0].sums(block, centers[0])
        return
    for run in runs(block, 8 * r * n_cluster_sums(k, d)):
        parts = zip(assignments, centers, strict=True)
        yield np.hstack([np.concatenate(list(one.sums(run, center))) for one, center in parts])
