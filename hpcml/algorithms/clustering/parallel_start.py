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
from hpcml.algorithms.clustering.least_rows import FewRows, Keys, least_rows
from hpcml.algorithms.kernels.nearest import nearest
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
    first = least_rows(data, 1, [draws_by(masses_of, seed, start, 0) for start in starts])
    chosen = [rows.X for rows in first]
    for round in range(1, rounds + 1):
        pairs = zip(starts, chosen, strict=True)
        found = least_rows(data, per_round, [_far(X, seed, start, round) for start, X in pairs])
        chosen = [np.concatenate([X, rows.X]) for X, rows in zip(chosen, found, strict=True)]
    return _weighed(data, chosen)


def _far(chosen: NDArray[np.float64], seed: int, start: int, round: int) -> Keys:
    """Return the keys that take far rows first."""

    def masses(block: Block) -> Vector:
        return block.weights * nearest(block, chosen).distances

    return draws_by(masses, seed, start, round)


def _weighed(data: Dataset, chosen: list[NDArray[np.float64]]) -> list[FewRows]:
    """Return candidates with the sum of the weights of the rows nearest to each. Collective, one pass.

    Of equal candidates the first has all the weight.
    """
    sizes = [len(X) for X in chosen]

    def statistics(block: Block) -> Iterator[Vector]:
        for run in runs(block, 8 * sum(sizes)):
            yield np.hstack([_weights(run, X) for X in chosen])

    total = reduce_blocks(data, statistics, sum(sizes)).total
    parts = np.split(total, np.cumsum(sizes)[:-1])
    return [FewRows(X[weight > 0], weight[weight > 0]) for X, weight in zip(chosen, parts, strict=True)]


def _weights(block: Block, chosen: NDArray[np.float64]) -> Vector:
    n = len(chosen)
    shard = np.repeat(np.arange(block.n_shards), np.diff(block.shards))
    labels = shard * n + nearest(block, chosen).labels
    return np.asarray(np.bincount(labels, block.weights, block.n_shards * n), np.float64).reshape(-1, n)
