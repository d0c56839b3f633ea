"""Digests of a file's arrays, recorded on all ranks while their rows are read, for its index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.collectives.gathering import on_first
from hpcml.errors import DataError
from hpcml.io.index.grains import Grid, HashedReader, grain_rows_of
from hpcml.io.index.side_file import borders_name, digest_bytes
from hpcml.io.read.array_reader import ArrayReader
from hpcml.io.read.layout import Segment
from hpcml.io.read.opening import check_declared, check_written, open_file
from hpcml.io.read.stored import StoredArray, stored_array
from hpcml.io.read.table import HDF5Table

__all__ = ["Recorder", "other_arrays"]

_RUN_BYTES = 16 << 20
_FOUND = np.dtype([("grain", "<i8"), ("digest", "u1", 16)])


@dataclass
class _Record:
    """The grains of one array, and this rank's digests of them."""

    stored: StoredArray
    n_rows: int
    grain_rows: int
    borders: NDArray[np.int64] | None
    found: dict[int, bytes]

    @property
    def n_grains(self) -> int:
        return -(-self.n_rows // self.grain_rows)

    @property
    def grid(self) -> Grid:
        return Grid(self.stored.shape[0], self.grain_rows, self.borders)

    def rows_of(self, part: int, n_parts: int) -> tuple[int, int]:
        """Return the rows of one of `n_parts` even runs of grains."""
        first, stop = (self.n_grains * i // n_parts for i in (part, part + 1))
        return (self.grid.bounds(first)[0], self.grid.bounds(stop - 1)[1]) if stop > first else (0, 0)


class Recorder:
    """Records the digests of the arrays of one file. Collective: four messages for each array in CSR form.

    Parameters
    ----------
    comm : Communicator
    table : HDF5Table
        Not read yet; its reads are recorded.
    number : int
        Of the file in the table.
    others : sequence of StoredArray
        Arrays of the file, besides the table's, that have a row for each of its rows.

    Raises
    ------
    DataError
        The borders of CSR rows cannot be read.
    """

    def __init__(
        self, comm: Communicator, table: HDF5Table, number: int, others: Sequence[StoredArray] = ()
    ) -> None:
        self._comm = comm
        self._table = table
        self._number = number
        self._records: dict[str, _Record] = {}
        for part in self._parts("X"):
            self._plan_rows(part)
        for role in [role for role in table.layout.columns if role != "X"]:
            for part in self._parts(role):
                self._plan(part.arrays[0])
        for stored in others:
            self._plan(stored)
        table.wraps.append(self._wrapped)

    def _parts(self, role: str) -> list[Segment]:
        return [part for part in self._table.layout.columns.get(role, []) if part.file == self._number]

    def _plan_rows(self, part: Segment) -> None:
        if not self._table.is_sparse:
            self._plan(part.arrays[0])
            return
        data, _, indptr = part.arrays
        n = indptr.shape[0] - 1
        grain = grain_rows_of(n, data.shape[0] / n * 12)
        self._plan(indptr)
        borders = self._borders(indptr, n, grain)
        for entries in part.arrays[:2]:
            self._add(_Record(entries, n, grain, borders, {}))

    def _plan(self, stored: StoredArray) -> None:
        n, width = stored.shape[0], stored.row_bytes // stored.dtype.itemsize
        self._add(_Record(stored, n, grain_rows_of(n, width * 8, stored.chunk_rows), None, {}))

    def _add(self, record: _Record) -> None:
        self._records.setdefault(record.stored.name, record)

    def _borders(self, indptr: StoredArray, n: int, grain_rows: int) -> NDArray[np.int64]:
        """Return where each grain's rows begin among the entries. Collective, three messages."""
        comm, n_grains = self._comm, -(-n // grain_rows)
        first, stop = (min(n_grains * i // comm.size * grain_rows, n) for i in (comm.rank, comm.rank + 1))
        mine: list[NDArray[Any]] = []
        with agreed(comm):
            reader = self._table.make_reader(self._number, indptr)
            for start, rows in _runs(reader, first, stop + (comm.rank == comm.size - 1)):
                wanted = np.arange(start, start + len(rows))
                mine.append(rows[(wanted % grain_rows == 0) | (wanted == n)])
        values = np.concatenate([np.zeros(0, np.int64), *mine]).astype(np.int64)
        parts = comm.alltoall([values.view(np.uint8)] * comm.size)
        return np.concatenate(parts).view(np.int64)

    def _wrapped(self, number: int, reader: ArrayReader) -> ArrayReader:
        record = self._records.get(reader.stored.name) if number == self._number else None
        if record is None:
            return reader
        return HashedReader(reader, record.grid, partial(self._take, record))

    def _take(self, record: _Record, grain: int, digest: bytes) -> None:
        """Note a digest; a row that is read again must be what it was."""
        if record.found.setdefault(grain, digest) != digest:
            first, last = record.grid.bounds(grain)
            path = self._table.layout.files[self._number].path
            what = "rows" if record.borders is None else "entries"
            raise DataError(
                f"{path}: {what} {first} to {last} of {record.stored.name!r} were others when they were read "
                "again: the file changed meanwhile, or its device is faulty; run hpcml index again"
            )

    def read(self, names: Sequence[str]) -> None:
        """Read arrays for their digests alone, each rank some grains of each. Collective, one message.

        Raises
        ------
        DataError
            One cannot be read.
        """
        with agreed(self._comm):
            for name in names:
                record = self._records[name]
                reader = self._wrapped(self._number, self._table.make_reader(self._number, record.stored))
                for _ in _runs(reader, *record.rows_of(self._comm.rank, self._comm.size)):
                    pass

    @property
    def names(self) -> list[str]:
        """The arrays whose digests are recorded, those of the table first. Local."""
        return list(self._records)

    def gathered(self, finite: Mapping[str, bool]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return, on the first rank, what the contract says of each array, and digests and borders by name.

        Collective, two messages an array. Every row was read once before.

        Parameters
        ----------
        finite : mapping of str to bool
            Of the arrays that were looked through, whether they have neither NaN nor Inf.
        """
        about: dict[str, Any] = {}
        numbers: dict[str, NDArray[Any]] = {}
        for name, record in self._records.items():
            digests = _merged(self._comm, record)
            if digests is None:
                continue
            numbers[f"digests/{name}"] = digests
            if record.borders is not None:
                numbers[borders_name(name)] = record.borders
            about[name] = {
                "shape": list(record.stored.shape),
                "dtype": record.stored.dtype.str,
                "n_rows": record.n_rows,
                "grain_rows": record.grain_rows,
                "content": digest_bytes(digests).hex(),
                "is_finite": finite.get(name),
            }
        return about, numbers


def _merged(comm: Communicator, record: _Record) -> NDArray[np.uint8] | None:
    """Return the digests of all grains on the first rank. Collective, two messages."""
    mine = np.zeros(len(record.found), _FOUND)
    mine["grain"] = list(record.found)
    mine["digest"] = np.frombuffer(b"".join(record.found.values()), np.uint8).reshape(-1, 16)
    found = on_first(comm, mine)
    if comm.rank != 0:
        return None
    # Grains without entries are never read.
    digests = np.tile(np.frombuffer(digest_bytes(b""), np.uint8), (record.n_grains, 1))
    digests[found["grain"]] = found["digest"]
    n_read = record.n_grains if record.borders is None else int((np.diff(record.borders) > 0).sum())
    assert np.unique(found["grain"]).size == n_read, f"grains of {record.stored.name} are missing"
    return digests


def _runs(reader: ArrayReader, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read rows ``start:stop`` into memory that is used again; yield each run with its first row."""
    stored = reader.stored
    unit = stored.chunk_rows
    step = max(1, _RUN_BYTES // max(1, stored.row_bytes * unit)) * unit
    rows = np.empty((min(step, stop - start), *stored.shape[1:]), stored.dtype)
    for first in range(start, stop, step):
        run = rows[: min(step, stop - first)]
        reader.into(first, first + len(run), run)
        yield first, run


def other_arrays(path: Path, n_rows: int, names: Sequence[str]) -> list[StoredArray]:
    """Return the numeric data sets at the top of a file that have `n_rows` rows, but for `names`. Local.

    What is virtual, lies in other files or was not wholly written is left out.

    Raises
    ------
    DataError
        The file cannot be opened.
    """
    found = []
    with open_file(path) as file:
        for name in sorted(set(file) - set(names)):
            if isinstance(file.get(name, getlink=True), h5py.HardLink):
                item = file[name]
                if isinstance(item, h5py.Dataset) and _is_row_aligned(item, n_rows):
                    found.append(stored_array(item))
    return found


def _is_row_aligned(item: h5py.Dataset, n_rows: int) -> bool:
    if not item.shape or item.shape[0] != n_rows or not item.size:
        return False
    if item.dtype.kind not in "fiub" or item.is_virtual or item.external:
        return False
    with suppress(DataError):
        check_declared(item)
        check_written(item)
        return True
    return False
