"""Rows of an HDF5 file as a data set: in memory, or streamed at each pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.collectives.startup import resolved
from hpcml.data import Block, RowSelection, make_block, make_partition, part_of
from hpcml.errors import SpecError
from hpcml.io.hdf5 import HDF5Rows
from hpcml.io.memory import available_bytes

__all__ = ["HDF5Dataset", "Layout", "open_hdf5"]

_READ_BYTES = 8 << 20
_CACHES = ("auto", "memory", "none")


@dataclass(frozen=True)
class Layout:
    """How rows are cut, kept and typed.

    Parameters
    ----------
    cache : {"auto", "memory", "none"}
    memory_limit : int or float
        Bytes a rank, or a fraction of the node's free memory shared by its ranks; decides "auto".
    dtype : {None, "float32", "float64"}
    shard_bytes, block_rows : int or None
        None follows from the data.
    """

    cache: str = "auto"
    memory_limit: int | float = 0.6
    dtype: str | None = None
    shard_bytes: int | None = None
    block_rows: int | None = None


class HDF5Dataset:
    """The shards of an HDF5 file that belong to this process; see `open_hdf5`.

    Attributes
    ----------
    in_memory : bool
        Whether the rows were read once, rather than at each pass; agreed over ranks.
    reason : str
        Why.
    seconds_reading : float
        Spent in reading so far, on this rank.
    """

    def __init__(
        self,
        path: Path,
        *,
        comm: Communicator,
        x: str = "X",
        y: str | None = "y",
        weight: str | None = None,
        selection: RowSelection | None = None,
        layout: Layout = Layout(),
    ) -> None:
        if layout.cache not in _CACHES:
            raise SpecError(f"cache must be one of {', '.join(_CACHES)}, not {layout.cache!r}")
        with agreed(comm):
            self.rows = HDF5Rows(path, x, y, weight, layout.dtype)
        self.comm = comm
        self.selection = selection
        self.n_features = self.rows.n_features
        source = self.rows.source
        self.partition = make_partition(
            source, comm.size, shard_bytes=layout.shard_bytes, block_rows=layout.block_rows
        )
        self._mine = self.partition.shards_of(comm.rank)
        self.seconds_reading = 0.0
        self.n_samples = self._count_selected()
        self.in_memory, self.reason = self._decided(layout, source.row_bytes)
        self._kept: Block | None = None

    def _count_selected(self) -> int:
        if self.selection is None:
            return self.partition.n_samples
        start, stop = self.partition.rows_of(self._mine)
        count = sum(
            int(self.selection.keeps(np.arange(first, min(first + (1 << 20), stop))).sum())
            for first in range(start, stop, 1 << 20)
        )
        return int(self.comm.allreduce(np.array([count]))[0][0])

    def _decided(self, layout: Layout, row_bytes: float) -> tuple[bool, str]:
        """Decide once, by the rank that has least room, where blocks live."""
        if layout.cache != "auto":
            return layout.cache == "memory", "asked for"
        n_ranks_here = self.comm.node().size
        limit = layout.memory_limit
        room = limit if isinstance(limit, int) else limit * available_bytes() / n_ranks_here
        start, stop = self.partition.rows_of(self._mine)
        share = (stop - start) * (row_bytes + 24)
        (missing,) = self.comm.allreduce(np.array([int(share - room)]), op="max")
        fits = int(missing[0]) <= 0
        return fits, "every rank's share fits in memory" if fits else "a rank's share does not fit in memory"

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield my rows in order as runs of whole shards, or one shard of mine. Local."""
        if not self.in_memory:
            yield from self._streamed(self._mine if shard is None else range(shard, shard + 1))
            return
        if self._kept is None:
            self._kept = self._read(self._mine)
        yield self._kept if shard is None else part_of(self._kept, shard - self._mine.start)

    def _streamed(self, shards: range) -> Iterator[Block]:
        row_bytes = self.rows.source.row_bytes
        step = max(1, int(_READ_BYTES / (row_bytes * self.partition.shard_rows)))
        for first in range(shards.start, shards.stop, step):
            yield self._read(range(first, min(first + step, shards.stop)))

    def _read(self, shards: range) -> Block:
        begin = time.perf_counter()
        start, stop = self.partition.rows_of(shards)
        X = self.rows.rows(start, stop)
        y, weight = self.rows.column("y", start, stop), self.rows.column("weight", start, stop)
        self.seconds_reading += time.perf_counter() - begin
        return make_block(X, y, weight, shards, self.partition, self.selection)

    def close(self) -> None:
        """Close the file; blocks in memory stay. Local."""
        self.rows.close()

    def __enter__(self) -> HDF5Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_hdf5(
    path: str | Path,
    x: str = "X",
    y: str | None = "y",
    weight: str | None = None,
    comm: Communicator | str | None = None,
    cache: str = "auto",
) -> HDF5Dataset:
    """Open rows of an HDF5 file over the ranks of a communicator.

    Collective, two to four small messages. Each rank opens the file read-only by itself and reads its
    own shards.

    Parameters
    ----------
    path : str or Path
    x : str
        Data set of shape (rows, columns), or group in CSR form.
    y, weight : str or None
        Data sets of shape (rows,).
    comm : None, "world" or Communicator
        None is this process alone.
    cache : {"auto", "memory", "none"}
        Whether rows are kept after the first pass; the bits of an answer do not depend on it.

    Returns
    -------
    HDF5Dataset
        A Dataset and a context manager.

    Raises
    ------
    DataError
        The file or a data set is missing or unusable.
    """
    return HDF5Dataset(Path(path), comm=resolved(comm), x=x, y=y, weight=weight, layout=Layout(cache=cache))
