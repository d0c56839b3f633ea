"""An HDF5 file that all ranks write without MPI-IO.

The first rank keeps the file's structure and makes room for all data; each rank writes its own bytes at the
places that it is told. So only sizes and offsets travel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import index_path, writing
from hpcml.io.write.aside import replacing_together
from hpcml.io.write.device import PAGE, Device, opened, reserve, write_all
from hpcml.io.write.filters import CONTIGUOUS, Chunk, Storage, create_dataset

__all__ = ["Array", "OutputFile", "output_file"]

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
    def n_bytes(self) -> int:
        """Bytes of all rows in memory."""
        return self.shape[0] * self.row_bytes

    @property
    def chunk_rows(self) -> int | None:
        """Rows of a chunk, None where it is stored in one piece."""
        return self.storage.rows_of(self.shape, self.dtype)


@contextmanager
def output_file(
    comm: Communicator, destination: Path, arrays: Sequence[Array], decorate: Callable[[Any], None]
) -> Iterator[OutputFile]:
    """Lay a file out and open it on every rank; afterwards it stands at `destination`.

    Collective, ten small messages. The file is complete or absent; an older one stays until the rename, and
    its index goes with it.

    Parameters
    ----------
    comm : Communicator
    destination : Path
        Its directory is made.
    arrays : sequence of Array
        The same on every rank.
    decorate : callable
        Takes the open h5py.File on the first rank, to add attributes and what is small.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    structure = None
    with ExitStack() as stack:
        aside = stack.enter_context(replacing_together(comm, destination, index_path(destination)))
        with agreed(comm), writing(destination):
            if comm.rank == 0:
                handle = stack.enter_context(opened(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL))
                structure = _Structure(handle, arrays, decorate)
                stack.callback(structure.file.close)
        offsets = comm.bcast(structure.offsets if structure else None)
        with agreed(comm), writing(destination):
            handle = stack.enter_context(opened(aside, os.O_WRONLY))
        yield OutputFile(comm, destination, aside, offsets, handle, structure)
        with agreed(comm), writing(destination):
            if structure is not None:
                structure.close()


class _Structure:
    """The file as HDF5 sees it, on the first rank: its data sets, and where they lie."""

    def __init__(self, handle: int, arrays: Sequence[Array], decorate: Callable[[Any], None]) -> None:
        whole = [array for array in arrays if array.chunk_rows is None]
        reserve(handle, sum(array.n_bytes + PAGE for array in whole) + _MARGIN)
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


class OutputFile:
    """The file as every rank sees it: bytes go to their places.

    Attributes
    ----------
    path : Path
        Where it is until it is whole.
    offsets : dict
        Where the data sets in one piece begin, by name.
    """

    def __init__(
        self,
        comm: Communicator,
        destination: Path,
        path: Path,
        offsets: dict[str, int],
        handle: int,
        structure: _Structure | None,
    ) -> None:
        self.path = path
        self.offsets = offsets
        self._comm = comm
        self._destination = destination
        self._handle = handle
        self._structure = structure

    def put(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write rows of a data set in one piece, in its dtype, from `row` on. Local; an OSError may come."""
        array = np.ascontiguousarray(values)
        width = array.nbytes // max(len(array), 1)
        write_all(self._handle, array.reshape(-1).view(np.uint8), self.offsets[name] + row * width)

    def put_chunks(self, chunks: Sequence[tuple[str, Chunk]]) -> None:
        """Write chunks of data sets, those of lower ranks first. Collective, five messages.

        Raises
        ------
        OutputError
            For want of space or quota.
        """
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

    def sync(self) -> None:
        """Let other machines see what this node wrote, when all its ranks have. Collective."""
        node = self._comm.node()
        with agreed(self._comm), writing(self._destination):
            if node.rank == 0:
                os.fsync(self._handle)

    def set_attribute(self, name: str, value: Any) -> None:
        """Give an attribute that was laid out another value of its type; the first rank does it. Local."""
        if self._structure is not None:
            self._structure.file.attrs.modify(name, value)
