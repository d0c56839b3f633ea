"""k-means||: a few rounds of many candidates each, and k-means++ over them.

Bahmani et al., "Scalable k-means++", VLDB 2012, doi:10.14778/2180912.2180915. A round takes each row with
probability ``min(1, l s D / sum s D)``; D is its squared distance to the nearest candidate so far. Here a
round takes the l rows of the least ``u / (s D)``, with a number u in [0, 1) that is keyed by the row:
sequential Poisson sampling (Ohlsson, J. Official Statistics 14 (1998) 149-162). The probabilities are about
the same, the number of candidates is known beforehand, and the sum need not be: each round is one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.draws import draws_by, masses_of
from hpcml.algorithms.clustering.growing import GrowingNearest
from hpcml.algorithms.clustering.least_rows import FewRows, Keys, least_rows
from hpcml.algorithms.kernels.passes import runs
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, Dataset

__all__ = ["candidates"]

Vector = NDArray[np.float64]


def candidates(data: Dataset, starts: Sequence[int], seed: int, per_round: int, rounds: int) -> list[FewRows]:
    """Return candidates for each start, weighted by the rows that are nearest to them.

    Collective: ``rounds + 2`` passes for all starts together; in each, three messages a start, in the last
    two in all.

    Parameters
    ----------
    data : Dataset
    starts : sequence of int
        Numbers of the starts; they draw apart from each other.
    seed : int
    per_round : int
        Candidates of a round, l.
    rounds : int
    """
    chosen = [GrowingNearest(data, len(starts)) for _ in starts]
    first = least_rows(data, 1, [draws_by(masses_of, seed, start, 0) for start in starts])
    _grow(chosen, first)
    for round in range(1, rounds + 1):
        pairs = zip(starts, chosen, strict=True)
        _grow(chosen, least_rows(data, per_round, [_far(some, seed, start, round) for start, some in pairs]))
    return _weighed(data, chosen)


def _grow(chosen: Sequence[GrowingNearest], found: Sequence[FewRows]) -> None:
    for some, rows in zip(chosen, found, strict=True):
        some.add(rows.X)


def _far(chosen: GrowingNearest, seed: int, start: int, round: int) -> Keys:
    """Return the keys that take far rows first."""

    def masses(block: Block) -> Vector:
        return block.weights * chosen.nearest(block).distances

    return draws_by(masses, seed, start, round)


def _weighed(data: Dataset, chosen: list[GrowingNearest]) -> list[FewRows]:
    """Return candidates with the sum of the weights of the rows nearest to each. Collective, one pass.

    Of equal candidates the first has all the weight.
    """
    sizes = [len(some.centers) for some in chosen]

    def statistics(block: Block) -> Iterator[Vector]:
        labels = [some.nearest(block).labels for some in chosen]
        at = 0
        for run in runs(block, 8 * sum(sizes)):
            rows = slice(at, at := at + run.n_rows)
            yield np.hstack([_weights(run, some[rows], n) for some, n in zip(labels, sizes, strict=True)])

    total = reduce_blocks(data, statistics, sum(sizes)).total
    parts = np.split(total, np.cumsum(sizes)[:-1])
    pairs = zip((some.centers for some in chosen), parts, strict=True)
    return [FewRows(X[weight > 0], weight[weight > 0]) for X, weight in pairs]


def _weights(block: Block, labels: NDArray[np.int32], n: int) -> Vector:
    """Return the weight of each label in each shard, (n_shards, n)."""
    shard = np.repeat(np.arange(block.n_shards), np.diff(block.shards))
    sums = np.bincount(shard * n + labels, block.weights, block.n_shards * n)
    return np.asarray(sums, np.float64).reshape(-1, n)
