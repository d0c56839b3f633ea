"""Write one HDF5 file from all ranks without MPI-IO: in one piece, in chunks, or compressed.

Rows are cut into units by their size alone, and ranks take units in turn. The first rank keeps the file's
structure: it makes room for compressed chunks in the order of the rows, once their sizes are known; each rank
writes its own bytes at the places that it is told. So only sizes and offsets travel, and the file has the
same bytes for any number of ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import put_in_place
from hpcml.io.write.device import PAGE, Device, opened, reserve, write_all, writing
from hpcml.io.write.filters import CONTIGUOUS, Chunk, Storage, create_dataset, encode_chunks

__all__ = ["Array", "Batch", "write_file"]

UNIT_BYTES = 8 << 20
"""Of the rows that a rank makes at a time; more where a single row, or a whole chunk, has more."""
_MARGIN = 1 << 20


@dataclass(frozen=True)
class Array:
    """A data set to be written by all ranks."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    storage: Storage = CONTIGUOUS

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int | None:
        """Rows of a chunk, None where it is stored in one piece."""
        return self.storage.rows_of(self.shape, self.dtype)


@dataclass(frozen=True)
class Batch:
    """Data sets of one length whose rows are made together.

    Parameters
    ----------
    arrays : tuple of Array
    read : callable
        ``read(start, stop)`` gives these rows of each array, in its dtype. It is Local and pure.
    step : int
        Rows that are best read together; a unit is a multiple of it where that is no great size.
    """

    arrays: tuple[Array, ...]
    read: Callable[[int, int], Sequence[NDArray[Any]]]
    step: int = 1

    @property
    def n_rows(self) -> int:
        """Rows of each array."""
        return self.arrays[0].shape[0]

    @property
    def unit_rows(self) -> int:
        """Rows of a unit: whole chunks of each array, a function of the data alone."""
        whole = lcm(*(array.chunk_rows or 1 for array in self.arrays))
        row_bytes = sum(array.row_bytes for array in self.arrays)
        best = lcm(whole, self.step)
        if best * row_bytes <= 4 * UNIT_BYTES:
            whole = best
        return max(UNIT_BYTES // max(row_bytes * whole, 1), 1) * whole


def write_file(
    comm: Communicator,
    destination: Path,
    batches: Sequence[Batch],
    decorate: Callable[[Any], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an HDF5 file with the rows of `batches`.

    Collective, per round of a unit a rank one small message, or six where there are chunks; seven more for
    the file. The file has the same bytes for any number of ranks, and is complete or absent; an older one
    stays until the rename. A rank holds a unit and its stored chunks at a time.

    Parameters
    ----------
    comm : Communicator
    destination : Path
        Its directory is made.
    batches : sequence of Batch
        The same on every rank.
    decorate : callable
        Takes the open h5py.File on the first rank, to add attributes and what is small.
    check : callable
        Called on every rank when all rows are written; what it raises keeps the file from being there. Local.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    HpcmlError
        Of `check` or a batch's `read`, on every rank.
    """
    aside = destination.with_name(comm.bcast(f".{destination.name}.{os.getpid()}.part"))
    with ExitStack() as stack:
        if comm.rank == 0:
            stack.callback(_remove, aside)
        writer = stack.enter_context(_begun(comm, aside, destination, batches, decorate))
        for batch in batches:
            for start in range(0, batch.n_rows, batch.unit_rows * comm.size):
                writer.write_round(batch, start + comm.rank * batch.unit_rows)
        writer.finish(aside, check)


def _remove(aside: Path) -> None:
    with suppress(OSError):
        aside.unlink()


@contextmanager
def _begun(
    comm: Communicator,
    aside: Path,
    destination: Path,
    batches: Sequence[Batch],
    decorate: Callable[[Any], None],
) -> Iterator[_Writer]:
    """Lay the file out on the first rank and open it on every one. Collective, four messages."""
    arrays = [array for batch in batches for array in batch.arrays]
    structure = None
    with ExitStack() as stack:
        with agreed(comm), writing(destination):
            if comm.rank == 0:
                destination.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                structure = _Structure(stack.enter_context(opened(aside, flags)), arrays, decorate)
                stack.callback(structure.file.close)
        offsets = comm.bcast(structure.offsets if structure else None)
        with agreed(comm), writing(destination):
            handle = stack.enter_context(opened(aside, os.O_WRONLY))
        yield _Writer(comm, destination, handle, structure, offsets)


class _Structure:
    """The file as HDF5 sees it, on the first rank: its data sets, and where they lie."""

    def __init__(self, handle: int, arrays: Sequence[Array], decorate: Callable[[Any], None]) -> None:
        whole = [array for array in arrays if array.chunk_rows is None]
        reserve(handle, sum(array.shape[0] * array.row_bytes + PAGE for array in whole) + _MARGIN)
        self._device = Device(handle)
        # Chunks of all sizes would leave half a page empty each.
        self.file = self._device.open_file(aligned=len(whole) == len(arrays))
        self._chunked: dict[str, tuple[Any, int]] = {}
        self.offsets: dict[str, int] = {}
        try:
            for array in arrays:
                self._create(array)
            decorate(self.file)
        except BaseException:
            self.file.close()
            raise

    def _create(self, array: Array) -> None:
        group, _, name = array.name.rpartition("/")
        parent = self.file.require_group(group) if group else self.file
        dataset = create_dataset(parent, name, array.shape, array.dtype, array.storage)
        if array.chunk_rows is None:
            self.offsets[array.name] = int(dataset.id.get_offset() or 0)
        else:
            self._chunked[array.name] = dataset, array.chunk_rows

    def place(self, sizes: Sequence[tuple[str, int, int, int]]) -> list[int]:
        """Make room for chunks, given as (data set, number, bytes, mask), in this order."""
        offsets = []
        for name, number, n_bytes, mask in sizes:
            dataset, rows = self._chunked[name]
            where = (number * rows, *(0,) * (dataset.ndim - 1))
            offsets.append(self._device.place_chunk(dataset, where, n_bytes, mask))
        return offsets

    def close(self) -> None:
        """Write the structure out."""
        self._device.close_file(self.file)


class _Writer:
    """The file as every rank sees it: rows go to their places."""

    def __init__(
        self,
        comm: Communicator,
        destination: Path,
        handle: int,
        structure: _Structure | None,
        offsets: dict[str, int],
    ) -> None:
        self._comm = comm
        self._destination = destination
        self._handle = handle
        self._structure = structure
        self._offsets = offsets

    def write_round(self, batch: Batch, start: int) -> None:
        """Write the unit that begins at row `start`, none where that is behind the last one. Collective."""
        chunks: list[tuple[str, Chunk]] = []
        with agreed(self._comm), writing(self._destination):
            if start < batch.n_rows:
                chunks = self._made(batch, start, min(start + batch.unit_rows, batch.n_rows))
        if any(array.chunk_rows is not None for array in batch.arrays):
            self._write_chunks(chunks)

    def _made(self, batch: Batch, start: int, stop: int) -> list[tuple[str, Chunk]]:
        """Write what lies in one piece, and return the chunks of the rest."""
        chunks: list[tuple[str, Chunk]] = []
        for array, values in zip(batch.arrays, batch.read(start, stop), strict=True):
            rows = array.chunk_rows
            if rows is None:
                flat = np.ascontiguousarray(values).reshape(-1)
                place = self._offsets[array.name] + start * array.row_bytes
                write_all(self._handle, flat.view(np.uint8), place)
            else:
                encoded = encode_chunks(values, start // rows, rows, array.storage)
                chunks += [(array.name, chunk) for chunk in encoded]
        return chunks

    def _write_chunks(self, chunks: list[tuple[str, Chunk]]) -> None:
        """Write chunks at the places that the first rank gives them. Collective, five messages."""
        sizes = [(name, chunk.number, len(chunk.content), chunk.mask) for name, chunk in chunks]
        parts = self._comm.allgather(sizes)
        places = None
        if self._structure is not None:
            places = self._structure.place([one for part in parts for one in part])
        places = self._comm.bcast(places)
        first = sum(len(part) for part in parts[: self._comm.rank])
        with agreed(self._comm), writing(self._destination):
            for (_, chunk), place in zip(chunks, places[first : first + len(chunks)], strict=True):
                write_all(self._handle, chunk.content, place)

    def finish(self, aside: Path, check: Callable[[], None]) -> None:
        """Bring everything to the disk and give the file its name. Collective, two messages."""
        with agreed(self._comm), writing(self._destination):
            check()
            os.fsync(self._handle)
        with agreed(self._comm), writing(self._destination):
            if self._structure is not None:
                self._structure.close()
                put_in_place(aside, self._destination)
