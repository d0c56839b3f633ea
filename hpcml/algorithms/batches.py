"""Mini-batches: a keyed share of rows from every part of the data, the same in memory and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.data import Block, Dataset, as_shard, own_runs

__all__ = ["Batch", "Batches", "make_batches"]

_CELLS = 8
"""Fewest cells of a batch: from as many parts of the data, for as many ranks."""
_MOST = 64
"""Batches of an epoch where no number of rows is asked for: each costs a message."""
_FEWEST_ROWS = 32


class Batch(NamedTuple):
    """The share of a process in a mini-batch.

    Attributes
    ----------
    data : Dataset
    cells : (my cells,) array of int64
        In rising order.
    parts : int
        Cells of a shard.
    """

    data: Dataset
    cells: NDArray[np.int64]
    parts: int

    def blocks(self) -> Iterator[Block]:
        """Yield my cells of the batch in order, each as a run of one shard. Local.

        A block is good until the next one is asked for.
        """
        for cell in self.cells.tolist():
            shard, i = divmod(cell, self.parts)
            for block in self.data.blocks(shard):
                yield block if self.parts == 1 else _part(block, i, self.parts)


@dataclass(frozen=True)
class Batches:
    """Every row in one of `n` mini-batches, drawn anew in every epoch.

    A *cell* is a shard, or an even run of a shard's rows where there are fewer than 8 n shards. Each run of
    n cells is a stratum, and a batch takes one cell from every stratum, by a permutation keyed by (seed,
    epoch, stratum). So each batch holds about ``1 / n`` of the rows, from all over the data, however they
    are sorted; a rank, whose shards lie together, has its share in every batch. Who owns what decides
    nothing.

    Only whole shards are asked of the data set. From memory a cell is a view. Streamed, an epoch reads the
    bytes of every shard once, in n sweeps of rising rows, each of whole shards; where shards are few they
    are small (less than 8 n blocks in all), and one is read for each of its cells. Blocks rather than rows
    are shuffled since stored chunks are read whole; strata are the cure for what that leaves in order (Fu
    et al. 2024, "Corgi2", arXiv:2309.01640, for the two levels of shuffling).

    Parameters
    ----------
    data : Dataset
    n : int
        Batches of an epoch.
    seed : int
    """

    data: Dataset
    n: int
    seed: int = 0

    @property
    def parts(self) -> int:
        """Cells of a shard. Local."""
        return max(1, -(-_CELLS * self.n // max(self.data.partition.n_shards, 1)))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch in order. Local."""
        parts, n_cells = self.parts, self.data.partition.n_shards * self.parts
        n_strata = -(-n_cells // self.n)
        key = np.array([self.seed % 2**64, number], np.uint64)
        places = np.random.Generator(np.random.Philox(key=key)).random((n_strata, self.n)).argsort(axis=1)
        cells = np.arange(n_strata)[:, None] * self.n + places
        first, last = (border * parts for border in _own_shards(self.data))
        for column in cells.T:
            yield Batch(self.data, column[(column >= first) & (column < last)], parts)


def make_batches(data: Dataset, batch_rows: int | None = None, seed: int = 0) -> Batches:
    """Return batches of about `batch_rows` rows: by default 64 of them, of at least 32 rows. Local."""
    n_rows = data.partition.n_samples
    wanted = min(_MOST, n_rows // _FEWEST_ROWS) if batch_rows is None else round(n_rows / batch_rows)
    return Batches(data, max(1, min(wanted, n_rows)), seed)


def _own_shards(data: Dataset) -> tuple[int, int]:
    """Return my first shard and the one after my last."""
    runs, partition = own_runs(data), data.partition
    if not runs:
        return 0, 0
    return partition.run(runs.start).start, partition.run(runs.stop - 1).stop


def _part(block: Block, i: int, parts: int) -> Block:
    """Return the i-th of even runs of rows of a shard, whatever its blocks are."""
    start, stop = (block.n_rows * k // parts for k in (i, i + 1))
    return as_shard(block, start, stop)
