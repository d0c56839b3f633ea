"""Write one HDF5 file from rows that any rank can make: in one piece, in chunks, or compressed.

Rows are cut into units by their size alone, and ranks take units in turn. Room for compressed chunks is made
in the order of the rows, once their sizes are known. So the file has the same bytes for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import writing
from hpcml.io.write.filters import Chunk, encode_chunks
from hpcml.io.write.output import Array, OutputFile, output_file

__all__ = ["Batch", "write_file"]

UNIT_BYTES = 8 << 20
"""Of the rows that a rank makes at a time; more where a single row, or a whole chunk, has more."""


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

    Collective, per round of a unit a rank one small message, or six where there are chunks; fourteen more
    for the file. The file has the same bytes for any number of ranks, and is complete or absent; an older one
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
    arrays = [array for batch in batches for array in batch.arrays]
    with output_file(comm, destination, arrays, decorate) as file:
        for batch in batches:
            for first in range(0, batch.n_rows, batch.unit_rows * comm.size):
                start = first + comm.rank * batch.unit_rows
                chunks: list[tuple[str, Chunk]] = []
                with agreed(comm), writing(destination):
                    if start < batch.n_rows:
                        chunks = _write_unit(file, batch, start)
                if any(array.chunk_rows is not None for array in batch.arrays):
                    file.put_chunks(chunks)
        with agreed(comm):
            check()


def _write_unit(file: OutputFile, batch: Batch, start: int) -> list[tuple[str, Chunk]]:
    """Write what lies in one piece of the unit that begins at a row, and return the chunks of the rest."""
    chunks: list[tuple[str, Chunk]] = []
    read = batch.read(start, min(start + batch.unit_rows, batch.n_rows))
    for array, values in zip(batch.arrays, read, strict=True):
        rows = array.chunk_rows
        if rows is None:
            file.put(array.name, start, values)
        else:
            encoded = encode_chunks(values, start // rows, rows, array.storage)
            chunks += [(array.name, chunk) for chunk in encoded]
    return chunks
