"""A sample of whole shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator
from hpcml.data.block import Block, Dataset
from hpcml.data.partition import RowPartition, uniform

__all__ = ["Sampled", "shuffled_shards"]

_STREAM = 3  # 1 and 2 are the streams of the rows' own hashes


def shuffled_shards(partition: RowPartition, seed: int) -> NDArray[np.int64]:
    """Return all shards in an order that the seed alone decides, (n_shards,). Local."""
    keys = uniform(seed, _STREAM, np.arange(partition.n_shards))
    return np.asarray(np.argsort(keys, kind="stable"))


class Sampled:
    """Some shards of a data set; a rank has those of them that it owns, maybe none.

    Parameters
    ----------
    data : Dataset
    shards : (n,) array of int64
        In any order.
    n_samples : int
        Selected rows in these shards over all ranks.
    """

    def __init__(self, data: Dataset, shards: NDArray[np.int64], n_samples: int = 0) -> None:
        self._data, self._shards, self.n_samples = data, np.sort(shards), n_samples

    @property
    def comm(self) -> Communicator:
        """The ranks that share the rows. Local."""
        return self._data.comm

    @property
    def n_features(self) -> int:
        """Number of columns of X. Local."""
        return self._data.n_features

    @property
    def partition(self) -> RowPartition:
        """The cut of all source rows into shards. Local."""
        return self._data.partition

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield this rank's shards in order, each as a run of its own. Local."""
        mine = self.partition.shards_of(self.comm.rank)
        owned = self._shards[(self._shards >= mine.start) & (self._shards < mine.stop)]
        for i in owned.tolist() if shard is None else [shard]:
            for block in self._data.blocks(i):
                yield self._placed(block, i)

    def _placed(self, block: Block, shard: int) -> Block:
        """Return a block that starts at its shard: its part of a longer run may start where that does."""
        first, _ = self.partition.rows_of(range(shard, shard + 1))
        if block.start == first:
            return block
        kept = None if block.kept is None else block.kept + (block.start - first)
        return replace(block, start=first, kept=kept)
