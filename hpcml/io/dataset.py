"""Stored rows as a data set: in memory, in node-local scratch, or streamed at each pass."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator
from hpcml.collectives.startup import resolved
from hpcml.data import Block, RowPartition, RowSelection, join, make_block, make_partition, part_of
from hpcml.errors import SpecError
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.memory import available_bytes
from hpcml.io.read.prefetch import ReadingTimes, prefetched
from hpcml.io.read.rows import Buffers, RowReader
from hpcml.io.read.table import open_table

__all__ = ["HDF5Dataset", "Layout", "fits_in_memory", "open_hdf5"]

_CACHES = ("auto", "memory", "none")


@dataclass(frozen=True)
class Layout:
    """How rows are cut, kept and read ahead.

    Parameters
    ----------
    cache : {"auto", "memory", "none"}
    memory_limit : int or float
        Bytes a rank, or a fraction of the node's free memory shared by its ranks; decides "auto".
    shard_bytes, block_rows : int or None
        None follows from the data.
    prefetch : int
        Read units that a thread reads ahead of a streamed pass.
    runs : int or None
        Runs of shards that a rank owns whole: the subproblems of a solver that has them.
    """

    cache: str = "auto"
    memory_limit: int | float = 0.6
    shard_bytes: int | None = None
    block_rows: int | None = None
    prefetch: int = 2
    runs: int | None = None

    def cut(self, rows: RowReader, comm: Communicator) -> RowPartition:
        """Return the partition of the rows over the ranks. Local."""
        return make_partition(
            rows.source,
            comm.size,
            shard_bytes=self.shard_bytes,
            block_rows=self.block_rows,
            runs=self.runs,
        )


def fits_in_memory(
    comm: Communicator, rows: RowReader, partition: RowPartition, memory_limit: int | float
) -> bool:
    """Tell whether every rank's share of the rows fits: the rank that has least room decides.

    Collective, three small messages.
    """
    n_ranks_here = comm.node().size
    room = memory_limit if isinstance(memory_limit, int) else memory_limit * available_bytes() / n_ranks_here
    start, stop = partition.rows_of(partition.shards_of(comm.rank))
    # Entries of CSR rows that are selected are copied together once.
    share = (stop - start) * (rows.source.row_bytes * (2 if rows.is_sparse else 1) + 32)
    (missing,) = comm.allreduce(np.array([int(share - room)]), op="max")
    return int(missing[0]) <= 0


class HDF5Dataset:
    """The shards of stored rows that belong to this process.

    Collective, two small messages.

    Parameters
    ----------
    rows : RowReader
        Open; closed with the data set.
    comm : Communicator
    selection : RowSelection, optional
    layout : Layout

    Attributes
    ----------
    in_memory : bool
        Whether the rows were read once, rather than at each pass; agreed over ranks.
    reason : str
        Why.
    times : ReadingTimes
        Of this rank so far.
    passes : int
        How often the rows were read from where they are stored.
    """

    def __init__(
        self,
        rows: RowReader,
        *,
        comm: Communicator,
        selection: RowSelection | None = None,
        layout: Layout = Layout(),
    ) -> None:
        if layout.cache not in _CACHES:
            raise SpecError(f"cache must be one of {', '.join(_CACHES)}, not {layout.cache!r}")
        self.rows = rows
        self.comm = comm
        self.n_features = rows.n_features
        self.selection = selection
        self.partition = layout.cut(rows, comm)
        self._mine = self.partition.shards_of(comm.rank)
        self._kept_rows = None if selection is None else self._marked(selection)
        self.n_samples = self._count_selected()
        self.times = ReadingTimes()
        self.passes = 0
        self.in_memory, self.reason = self._decided(layout)
        self._buffers = [Buffers() for _ in range(layout.prefetch + 1)]
        self._kept: Block | None = None

    def _marked(self, selection: RowSelection) -> NDArray[np.uint8]:
        """Return a bit for each of my rows, whether it takes part."""
        start, stop = self.partition.rows_of(self._mine)
        step = 1 << 20
        parts = [
            np.packbits(selection.keeps(np.arange(first, min(first + step, stop))))
            for first in range(start, stop, step)
        ]
        return np.concatenate([np.zeros(0, np.uint8), *parts])

    def _count_selected(self) -> int:
        if self._kept_rows is None:
            return self.partition.n_samples
        count = int(np.bitwise_count(self._kept_rows).sum())
        return int(self.comm.allreduce(np.array([count]))[0][0])

    def _keep(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        """Return which of the rows ``start:stop`` take part, None for all."""
        if self._kept_rows is None:
            return None
        first, _ = self.partition.rows_of(self._mine)
        low, high = start - first, stop - first
        bits = np.unpackbits(self._kept_rows[low // 8 : -(-high // 8)])
        return bits[low % 8 :][: high - low].view(np.bool_)

    def _decided(self, layout: Layout) -> tuple[bool, str]:
        if layout.cache != "auto":
            return layout.cache == "memory", "asked for"
        fits = fits_in_memory(self.comm, self.rows, self.partition, layout.memory_limit)
        return fits, "every rank's share fits in memory" if fits else "a rank's share does not fit in memory"

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield my rows in order as runs of whole shards, or one shard of mine. Local.

        A streamed block is good until the next one is asked for.

        Raises
        ------
        DataError
            Rows cannot be read, or a file changed while they were.
        """
        if self.in_memory:
            if self._kept is None:
                self._kept = self._read_all()
                self.rows.check()
            yield self._kept if shard is None else part_of(self._kept, shard - self._mine.start)
            return
        self.passes += shard is None
        units = self._units() if shard is None else [range(shard, shard + 1)]
        yield from prefetched(units, self._read, self._buffers, self.times)
        self.rows.check()

    def _units(self) -> Sequence[range]:
        """Return my shards in runs of a read unit: whole shards, at least what the rows are best read in."""
        shard_bytes = self.rows.source.row_bytes * self.partition.shard_rows
        step = max(1, ceil(self.rows.unit_bytes / shard_bytes))
        mine = self._mine
        return [range(first, min(first + step, mine.stop)) for first in range(mine.start, mine.stop, step)]

    def _read(self, shards: range, buffers: Buffers) -> Block:
        start, stop = self.partition.rows_of(shards)
        rows = self.rows.read(start, stop, buffers)
        keep = self._keep(start, stop)
        return make_block(*rows[:3], shards, self.partition, keep, offset=rows.offset)

    def _read_all(self) -> Block:
        """Read my shards once; of selected rows the rest never fills memory."""
        self.passes += 1
        begin = time.perf_counter()
        start, stop = self.partition.rows_of(self._mine)
        if self._kept_rows is None or start == stop:
            rows = self.rows.read(start, stop)
            block = make_block(*rows[:3], self._mine, self.partition, offset=rows.offset)
        else:
            parts = (self._read(unit, self._buffers[0]) for unit in self._units())
            block = join(parts, int(np.bitwise_count(self._kept_rows).sum()))
        seconds = time.perf_counter() - begin
        self.times.reading += seconds
        self.times.waiting += seconds
        return block

    def close(self) -> None:
        """Close the files; blocks in memory stay. Local."""
        self.rows.close()

    def __enter__(self) -> HDF5Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_hdf5(
    path: str | Path | Sequence[str | Path],
    x: str = "X",
    y: str | None = "y",
    weight: str | None = None,
    comm: Communicator | str | None = None,
    cache: str = "auto",
    *,
    offset: str | None = None,
    exposure: str | None = None,
) -> HDF5Dataset:
    """Open rows of HDF5 files over the ranks of a communicator.

    Collective, five to seven small messages. Each rank opens the files of its own shards read-only by itself.

    Parameters
    ----------
    path : str or Path, or a sequence of them
        The rows of several files follow one another.
    x : str
        Data set of shape (rows, columns), or group in CSR form.
    y, weight : str or None
        Data sets of shape (rows,).
    comm : None, "world" or Communicator
        None is this process alone.
    cache : {"auto", "memory", "none"}
        Whether rows are kept after the first pass; the bits of an answer do not depend on it.
    offset, exposure : str or None
        Data set of what is added to each row's raw prediction, or of numbers above 0 whose logarithm is
        added; not both.

    Returns
    -------
    HDF5Dataset
        A Dataset and a context manager.

    Raises
    ------
    DataError
        The file or a data set is missing or unusable.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not paths:
        raise SpecError("path is an empty list; give at least one file")
    if offset is not None and exposure is not None:
        raise SpecError("offset and exposure exclude each other; give one of the two")
    talker = resolved(comm)
    rows = open_table(talker, paths, Columns(x, y, weight, offset, exposure))
    return HDF5Dataset(rows, comm=talker, layout=Layout(cache=cache))
