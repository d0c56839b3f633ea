"""Bring the rows of each rank's shards to the scratch of its node."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.data import RowPartition
from hpcml.data.block import canonical
from hpcml.errors import DataError, OutputError
from hpcml.io.read.rows import Buffers, RowReader, Rows
from hpcml.io.scratch.directory import Scratch, agreed_reason, staging_sentence
from hpcml.io.scratch.folder import Folder, NoRoomError, sync, write_all
from hpcml.io.scratch.staged import Record, Shape, StagedRows, damaged, map_parts, offsets_of, parse_records

__all__ = ["prune", "stage_shards", "without_room"]

T = TypeVar("T")
_READ_BYTES = 8 << 20
_COMMIT_BYTES = 64 << 20
_JOURNAL = "journal"
_COLUMNS = ("y", "weight", "offset")


def stage_shards(
    comm: Communicator,
    scratch: Scratch,
    reader: RowReader,
    partition: RowPartition,
    say: Callable[[str], None],
    name: str = "rows",
) -> StagedRows | None:
    """Write the rows of every rank's shards to its node's scratch, and return this rank's, mapped.

    Collective, twelve small messages at most. Each rank writes its own shards. Whole shards that a dead
    attempt left there are used again, in files whose first shard is this rank's first; all are compared with
    their digests, and read anew where they differ.

    Parameters
    ----------
    comm : Communicator
    scratch : Scratch
    reader : RowReader
        Of the source; still the caller's to close.
    partition : RowPartition
    say : callable
        Takes a sentence for the user, on the first rank.
    name : str
        Of this set of rows among those in the same scratch.

    Returns
    -------
    StagedRows or None
        None on every rank if a node's scratch was too small; nothing is left there.

    Raises
    ------
    DataError
        The source cannot be read, or changed meanwhile.
    OutputError
        Scratch cannot be written, or does not give back what was written.
    """
    run = _Run(scratch.folder, reader, partition, partition.shards_of(comm.rank), name)
    prune(scratch, name, run.names)
    with closing(run):
        reason = None
        with agreed(comm):
            _, reason = without_room(run.stage)
        reason = agreed_reason(comm, reason)
        if reason is not None:
            run.remove()
        staged = None if reason is not None else _verified(comm, run)
    if comm.rank == 0:
        say(staging_sentence(scratch, reason))
    return staged


def _verified(comm: Communicator, run: _Run) -> StagedRows | None:
    """Return the mapped rows of this rank; a rank without rows has the columns of the others."""
    present = comm.allreduce(np.array([run.has(name) for name in _COLUMNS], np.int64), op="max")[0]
    staged = None
    with agreed(comm):
        columns = (name for name, is_there in zip(_COLUMNS, present, strict=True) if is_there)
        staged = run.verified(tuple(columns))
    return staged


def without_room(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return what `work` returns, and why there was no room for it, one of them None. Local."""
    try:
        return work(), None
    except NoRoomError as error:
        return None, str(error)


def prune(scratch: Scratch, name: str, wanted: Collection[str]) -> None:
    """Remove what is left of earlier attempts at `name` and is no file that a rank of this node wants.

    Collective over the node, three small messages.
    """
    names = {one for part in scratch.node.allgather(sorted(wanted)) for one in part}
    if scratch.node.rank == 0:
        for left in scratch.folder.names():
            if left.startswith(f"{name}-") and left not in names:
                with suppress(OSError):
                    scratch.folder.remove(left)
    scratch.node.bcast(None)


class _Run:
    """The files of one rank's run of shards, a part of the rows each, and their journal. All Local."""

    def __init__(
        self, folder: Folder, reader: RowReader, partition: RowPartition, shards: range, name: str
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._partition = partition
        self._shards = shards
        self._shape = Shape.of(reader)
        self._types = self._shape.types
        # By the first shard alone: on another number of ranks the files of a run that begins there fit too.
        self._stem = f"{name}-{_layout(self._shape, partition)}-{shards.start}"
        self._handles: dict[str, int] = {}
        self._records: list[Record] = []
        self._buffers = Buffers()

    @property
    def names(self) -> list[str]:
        """The files that the run may have."""
        return [f"{self._stem}.{part}" for part in (*self._types, _JOURNAL)] if self._shards else []

    def has(self, part: str) -> bool:
        """Tell whether the staged rows have a part."""
        return bool(self._records) and part in self._records[0].sizes

    def remove(self) -> None:
        """Remove the files."""
        self.close()
        for name in self.names:
            self._folder.remove(name)

    def close(self) -> None:
        """Close the files."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def stage(self) -> None:
        """Write the shards that are not there yet."""
        self._resume()
        *_, offsets = offsets_of(self._records, self._types)
        waiting: list[Record] = []
        n_bytes = 0
        for shard in self._shards[len(self._records) :]:
            waiting.append(self._put(shard, offsets))
            sizes = waiting[-1].sizes
            offsets = {part: offset + sizes.get(part, 0) for part, offset in offsets.items()}
            n_bytes += sum(sizes.values())
            if shard + 1 == self._shards.stop or n_bytes >= _COMMIT_BYTES:
                self._commit(waiting)
                waiting, n_bytes = [], 0
        self._reader.check()

    def verified(self, columns: tuple[str, ...]) -> StagedRows:
        """Return the rows, mapped and compared with their digests; what differs is read anew, once."""
        parts = map_parts(self._folder, self._stem, self._types)
        find = partial(damaged, parts, self._records, self._types)
        for record, offsets, _ in find():
            self._mend(record, offsets)
        for record, offsets, part in find():
            path = self._folder.path / f"{self._stem}.{part}"
            raise OutputError(
                f"{path} does not give back what was written at offset {offsets[part]} (shard "
                f"{record.shard}): the device is faulty; name another one as scratch.path"
            )
        start, stop = self._partition.rows_of(self._shards)
        return StagedRows(self._shape, start, stop, parts, columns)

    def _mend(self, record: Record, offsets: dict[str, int]) -> None:
        try:
            again = self._put(record.shard, offsets)
        except NoRoomError as error:
            raise OutputError(str(error)) from None
        if again != record:
            start, stop = self._partition.rows_of(range(record.shard, record.shard + 1))
            raise DataError(f"rows {start} to {stop} of the source are no longer those that were staged")

    def _resume(self) -> None:
        """Go on after the last shard of the journal; start anew where files and journal do not fit."""
        try:
            content = self._folder.read(f"{self._stem}.{_JOURNAL}")
            self._records = parse_records(content, self._shards)
            *_, ends = offsets_of(self._records, self._types)
            journal = sum(len(record.render()) for record in self._records)
            ends = {part: end for part, end in ends.items() if self.has(part)} | {_JOURNAL: journal}
            if self._records and all(self._cut(part, end) for part, end in ends.items()):
                return
        except OutputError:
            pass  # there is none, or it cannot be read
        self._records = []
        self.remove()

    def _cut(self, part: str, end: int) -> bool:
        """Cut a file where its journal ends; tell whether it was that long."""
        handle = self._handles[part] = self._folder.open(f"{self._stem}.{part}", os.O_RDWR)
        size = os.fstat(handle).st_size
        if size > end:
            os.ftruncate(handle, end)
        return size >= end

    def _put(self, shard: int, offsets: dict[str, int]) -> Record:
        """Write a shard's rows at the offsets of their parts."""
        from xxhash import xxh3_128

        start, stop = self._partition.rows_of(range(shard, shard + 1))
        at = dict(offsets)
        digests: dict[str, xxh3_128] = {}
        for first in range(start, stop, self._step):
            rows = self._reader.read(first, min(first + self._step, stop), self._buffers)
            for part, values in self._arrays(rows, at).items():
                content = values.reshape(-1).view(np.uint8).data
                write_all(self._handle(part), content, at[part], self._folder.path / f"{self._stem}.{part}")
                digests.setdefault(part, xxh3_128()).update(content)
                at[part] += len(content)
        sizes = {part: at[part] - offsets[part] for part in digests}
        return Record(shard, sizes, {part: digest.hexdigest() for part, digest in digests.items()})

    @property
    def _step(self) -> int:
        """Rows to read at a time: whole stored chunks, about 8 MiB."""
        source = self._shape.source
        chunks = int(_READ_BYTES / max(source.row_bytes * source.chunk_rows, 1.0))
        return max(chunks, 1) * source.chunk_rows

    def _arrays(self, rows: Rows, at: dict[str, int]) -> dict[str, NDArray[Any]]:
        """Return the parts of rows as they are stored."""
        X: Any = rows.X
        found: dict[str, Any] = {name: getattr(rows, name) for name in _COLUMNS}
        if self._shape.is_sparse:
            X = canonical(X)
            before = at["data"] // self._types["data"].itemsize
            indptr = X.indptr[1:].astype(np.int64) + before
            found |= {"data": X.data, "indices": X.indices, "indptr": indptr}
        else:
            found["X"] = X
        kept = {part: values for part, values in found.items() if values is not None}
        return {part: np.ascontiguousarray(values, self._types[part]) for part, values in kept.items()}

    def _handle(self, part: str) -> int:
        """Return the handle of a part's file, made when first used."""
        if part not in self._handles:
            name = f"{self._stem}.{part}"
            self._handles[part] = self._folder.create(name)
            if part == "indptr":
                write_all(self._handles[part], bytes(8), 0, self._folder.path / name)
        return self._handles[part]

    def _commit(self, records: list[Record]) -> None:
        """Write shards down in the journal once their rows are on the device."""
        for part, handle in self._handles.items():
            sync(handle, self._folder.path / f"{self._stem}.{part}")
        journal = self._handle(_JOURNAL)
        content = b"".join(record.render() for record in records)
        path = self._folder.path / f"{self._stem}.{_JOURNAL}"
        write_all(journal, content, os.fstat(journal).st_size, path)
        sync(journal, path)
        sync(self._folder.handle, self._folder.path)
        self._records += records


def _layout(shape: Shape, partition: RowPartition) -> str:
    """Return what tells files of one cut and type from another's."""
    from xxhash import xxh3_64_hexdigest

    words = [shape.n_samples, shape.n_features, shape.dtype.str, shape.is_sparse, partition.shard_rows]
    return str(xxh3_64_hexdigest(json.dumps(words).encode()))
