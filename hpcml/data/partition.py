"""Which rows make a block and a shard, who owns them, and which take part: pure arithmetic."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowPartition", "RowSelection", "Source", "make_partition", "uniform"]

_BLOCK_BYTES = 512 << 10
_GRADIENTS = 32
_SHARD_BYTES = 16 << 20
_SHARDS = 1024


@dataclass(frozen=True)
class RowPartition:
    """Cut rows into shards and blocks, and hand shards out to ranks: pure arithmetic.

    Parameters
    ----------
    n_samples : int
    shard_rows : int
        Rows of a shard; the last one may be shorter.
    block_rows : int
        Rows of a block, counted from the start of its shard.
    borders : tuple of int
        Rank r owns the shards ``borders[r] <= s < borders[r + 1]``.
    runs : int, optional
        Even runs of shards that a rank owns whole; None makes each shard a run.
    """

    n_samples: int
    shard_rows: int
    block_rows: int
    borders: tuple[int, ...]
    runs: int | None = None

    @property
    def n_shards(self) -> int:
        """Number of shards over all ranks."""
        return -(-self.n_samples // self.shard_rows)

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.borders) - 1

    def shards_of(self, rank: int) -> range:
        """Return the shards that `rank` owns."""
        return range(self.borders[rank], self.borders[rank + 1])

    @property
    def n_runs(self) -> int:
        """Number of runs of shards over all ranks."""
        return self.n_shards if self.runs is None else min(self.runs, self.n_shards)

    def run(self, i: int) -> range:
        """Return the shards of a run."""
        return range(*(self.n_shards * k // self.n_runs for k in (i, i + 1)))

    def runs_of(self, rank: int) -> range:
        """Return the runs that `rank` owns."""
        n_shards, n_runs = self.n_shards, self.n_runs
        starts = [n_shards * i // n_runs for i in range(n_runs)]
        return range(*(bisect_left(starts, border) for border in self.borders[rank : rank + 2]))

    def rows_of(self, shards: range) -> tuple[int, int]:
        """Return the first row of a run of shards and the row after its last."""
        start, stop = shards.start * self.shard_rows, shards.stop * self.shard_rows
        return min(start, self.n_samples), min(stop, self.n_samples)


@dataclass(frozen=True)
class Source:
    """What decides a partition: the shape of the stored rows, nothing of the machine.

    Parameters
    ----------
    n_samples, n_features : int
    row_bytes : float
        Mean bytes of a row of X.
    chunk_rows : int
        Rows of a stored HDF5 chunk, 1 where rows are contiguous.
    """

    n_samples: int
    n_features: int
    row_bytes: float
    chunk_rows: int = 1


def make_partition(
    source: Source,
    size: int,
    *,
    shard_bytes: int | None = None,
    block_rows: int | None = None,
    runs: int | None = None,
) -> RowPartition:
    """Return the partition of `source` over `size` ranks, shards or `runs` of them dealt out evenly. Local.

    A block has the power of two of rows, 64 to 4096, with at most 512 KiB; a shard has a 1024th of
    the bytes, at least one block and 32 gradients, so that wide CSR rows outweigh the sums over them,
    and at most 16 MiB, in whole blocks and whole stored chunks.
    """
    row_bytes = max(source.row_bytes, 1.0)
    fitting = int(max(_BLOCK_BYTES / row_bytes, 1.0)).bit_length() - 1
    block = block_rows or min(max(1 << fitting, 64), 4096)
    least = max(source.n_samples * row_bytes / _SHARDS, _GRADIENTS * 8 * source.n_features)
    wanted = shard_bytes or min(least, _SHARD_BYTES)
    # Chunks need not be a multiple of blocks: the grid of blocks starts anew in each shard.
    unit = source.chunk_rows if source.chunk_rows > block else block
    rows = max(1, round(wanted / row_bytes / unit)) * unit
    if source.chunk_rows > 1:
        rows = -(-rows // source.chunk_rows) * source.chunk_rows
    n_shards = -(-source.n_samples // rows)
    n_runs = n_shards if runs is None else min(runs, n_shards)
    firsts = (n_runs * r // size for r in range(size + 1))
    borders = tuple(n_shards * first // max(n_runs, 1) for first in firsts)
    return RowPartition(source.n_samples, rows, block, borders, runs)


@dataclass(frozen=True)
class RowSelection:
    """Which rows take part: a range, a hashed sample, and one side of a hashed split.

    Membership is a function of the seed and the row's number in the source, so it is the same for any
    number of ranks. Two hashes, one for the sample and one for the split, are independent.

    Parameters
    ----------
    seed : int
    start, stop : int, int or None
        Range of source rows.
    fraction : float
        Share of the rows that the sample keeps.
    test : float
        Share of the kept rows that is the test part.
    part : {"all", "train", "test"}
    """

    seed: int = 0
    start: int = 0
    stop: int | None = None
    fraction: float = 1.0
    test: float = 0.0
    part: str = "all"

    def keeps(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the source rows take part. Local."""
        mask = rows >= self.start
        if self.stop is not None:
            mask &= rows < self.stop
        if self.fraction < 1.0:
            mask &= uniform(self.seed, 1, rows) < self.fraction
        if self.part == "all":
            return mask
        is_test = uniform(self.seed, 2, rows) < self.test
        return mask & (is_test if self.part == "test" else ~is_test)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, stream: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) keyed by (seed, stream, row): SplitMix64, doi:10.1145/2660193.2660195."""
    with np.errstate(over="ignore"):
        # The seed is mixed first: added to the stream it could meet a row's own number, and cancel it.
        key = _mixed(_mixed(np.uint64(seed % 2**64) + _GOLDEN) + np.uint64(stream) * _GOLDEN)
        bits = _mixed(key ^ _mixed(rows.astype(np.uint64) * _GOLDEN))
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, np.float64)


def _mixed(z: Any) -> Any:
    """Return the finalizer of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
