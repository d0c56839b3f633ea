"""Rows compared, while they are read, with the digests that an index has of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.data import RowPartition, RowSelection
from hpcml.errors import DataError
from hpcml.io.index.grains import Grid, HashedReader
from hpcml.io.index.side_file import ArrayIndex, digest_bytes
from hpcml.io.read.array_reader import ArrayReader
from hpcml.io.read.handle import Handle, Traffic
from hpcml.io.read.layout import TableLayout
from hpcml.io.read.opened import KnownFile, OpenFiles
from hpcml.io.read.stored import StoredArray

__all__ = ["Verification", "answer_key", "has_gaps", "index_notes", "indexed_array", "is_known_finite"]

_WINDOW = 4096  # digests that are read at once


def indexed_array(layout: TableLayout, number: int, stored: StoredArray) -> ArrayIndex | None:
    """Return what the index of a file knows of one of its arrays, None where it has no digests of it. Local.

    Raises
    ------
    DataError
        It knows an array of this name, of another shape or type.
    """
    index = layout.indexes[number] if layout.indexes else None
    known = index.arrays.get(stored.name) if index else None
    if index and known and (tuple(known.shape), known.dtype) != (stored.shape, stored.dtype.str):
        raise DataError(
            f"{index.path}: was made for another state of the file, in which {stored.name!r} was "
            f"{' x '.join(map(str, known.shape))} {known.dtype}: run hpcml index again, or remove the index"
        )
    return known


def index_notes(layout: TableLayout) -> list[str]:
    """Return a sentence for each thing that a user should know of the indexes of a table's files. Local."""
    notes = []
    for number, index in enumerate(layout.indexes):
        if index is None:
            continue
        path = layout.files[number].path
        unknown = _unknown(layout, number)
        if not index.arrays:
            notes.append(f"{index.path} is of another version of hpcml: rows are not compared with it")
        elif unknown:
            notes.append(f"{index.path} does not know {', '.join(unknown)}: these are not compared with it")
        if index.arrays and not index.is_fresh:
            notes.append(
                f"{path} has another time of change than {index.path.name} knows: its rows are compared as "
                "they are read, and hpcml index, run again, would save passes over them"
            )
    return notes


def _unknown(layout: TableLayout, number: int) -> list[str]:
    parts = (part for part in chain(*layout.columns.values()) if part.file == number)
    names = dict.fromkeys(stored.name for part in parts for stored in part.arrays)
    index = layout.indexes[number]
    return [repr(name) for name in names if index is not None and name not in index.arrays]


def _findings(layout: TableLayout, role: str) -> list[bool | None]:
    """Return what the indexes say of the numbers of X or y: all finite, not so, or nothing."""
    known = [indexed_array(layout, part.file, part.arrays[0]) for part in layout.columns.get(role, [])]
    return [one.is_finite if one else None for one in known]


def has_gaps(layout: TableLayout) -> bool:
    """Tell whether an index knows of NaN or Inf in X or y. Local."""
    return False in [*_findings(layout, "X"), *_findings(layout, "y")]


def is_known_finite(layout: TableLayout, dtype: np.dtype[Any]) -> bool:
    """Tell whether all of X is known to be finite, in memory too. Local."""
    # A float64 may be beyond what float32 can say.
    return np.can_cast(layout.stored_dtype, dtype) and all(_findings(layout, "X"))


def answer_key(
    layout: TableLayout, partition: RowPartition, selection: RowSelection | None, rest: Sequence[str]
) -> tuple[Path, str] | None:
    """Return the data file whose index has answers for these rows, and their key, or None. Local.

    The key is of all that an answer follows from: content, place and type of each array, the cut into shards
    and blocks, the selection, and what the caller adds in `rest`. An index whose file has another time of
    change has no answers: its content is only believed as it is read.
    """
    columns: dict[str, list[Any]] = {role: [] for role in layout.columns}
    for role, part in ((role, part) for role, parts in layout.columns.items() for part in parts):
        index = layout.indexes[part.file] if layout.indexes else None
        arrays = [indexed_array(layout, part.file, stored) for stored in part.arrays]
        if index is None or not index.is_fresh or None in arrays:
            return None
        contents = [[one.shape, one.dtype, one.grain_rows, one.content] for one in arrays if one]
        columns[role].append([*part[:3], contents])
    cut = [partition.shard_rows, partition.block_rows, selection and astuple(selection)]
    key = json.dumps([columns, layout.n_features, cut, *rest])
    return layout.files[layout.columns["X"][0].file].path, digest_bytes(key.encode()).hex()


class Verification:
    """The digests of a table's files, and which of them rows were compared with. All Local.

    Parameters
    ----------
    layout : TableLayout
    """

    def __init__(self, layout: TableLayout) -> None:
        self._layout = layout
        sides = [
            KnownFile(index.path, index.identity) if index else file
            for file, index in zip(layout.files, layout.indexes, strict=True)
        ]
        self._sides = OpenFiles(sides, Traffic())
        self._checks: list[_Check] = []
        self._rows = {(part.file, part.arrays[0].name) for part in layout.columns["X"]}

    def wrapped(self, number: int, reader: ArrayReader) -> ArrayReader:
        """Return a reader that compares what `reader` reads; `reader` itself where no digests are known.

        Raises
        ------
        DataError
            The index is of an array of another shape or type.
        """
        stored = reader.stored
        known = indexed_array(self._layout, number, stored)
        if known is None:
            return reader
        counts = (number, stored.name) in self._rows
        path = self._layout.files[number]
        check = _Check(path, stored, known, self._sides, number, counts)
        self._checks.append(check)
        return HashedReader(reader, check.grid, check, check.is_done)

    def counts(self) -> tuple[int, int]:
        """Return how many grains, and how many rows of X, were compared so far, each counted once."""
        grains = sum(check.n_done for check in self._checks)
        return grains, sum(check.n_rows_done for check in self._checks if check.counts_rows)

    def close(self) -> None:
        """Close the side files; the counts stay."""
        self._sides.close()


class _Check:
    """Compares the digests of one array with those of the index."""

    def __init__(
        self,
        file: KnownFile,
        stored: StoredArray,
        known: ArrayIndex,
        sides: OpenFiles,
        number: int,
        counts_rows: bool,
    ) -> None:
        self._file = file
        self._stored = stored
        self._known = known
        self._sides = sides
        self._number = number
        self.counts_rows = counts_rows
        self._windows: dict[int, bytes] = {}
        self._done = np.zeros(known.n_grains, np.bool_)
        borders = None
        if known.borders is not None:
            borders = np.empty(known.n_grains + 1, np.int64)
            self._side.read_into(borders, known.borders)
        self.grid = Grid(stored.shape[0], known.grain_rows, borders)

    @property
    def n_done(self) -> int:
        return int(self._done.sum())

    @property
    def n_rows_done(self) -> int:
        done = np.flatnonzero(self._done)
        each = np.minimum(self._known.grain_rows, self._known.n_rows - done * self._known.grain_rows)
        return int(each.sum())

    def is_done(self, number: int) -> bool:
        return bool(self._done[number])

    def __call__(self, number: int, digest: bytes) -> None:
        if self._expected(number) != digest:
            raise self._differing(number)
        self._done[number] = True

    @property
    def _side(self) -> Handle:
        return self._sides.handle(self._number)

    def _expected(self, number: int) -> bytes:
        window, place = divmod(number, _WINDOW)
        if window not in self._windows:
            self._windows[window] = self._digests(
                window * _WINDOW, min(_WINDOW, self._done.size - window * _WINDOW)
            ).tobytes()
        return self._windows[window][16 * place : 16 * place + 16]

    def _digests(self, first: int, n: int) -> NDArray[np.uint8]:
        out = np.empty((n, 16), np.uint8)
        assert self._known.digests is not None
        self._side.read_into(out, self._known.digests + first * 16)
        return out

    def _differing(self, number: int) -> DataError:
        """Return what is to be said of a grain whose digest is another: whose fault it is, and where."""
        side = self._side.path
        if digest_bytes(self._digests(0, self._done.size)).hex() != self._known.content:
            return DataError(
                f"{side}: is damaged (its digests of {self._stored.name}): run hpcml index again"
            )
        first, last = self.grid.bounds(number)
        what = "rows" if self._known.borders is None else "entries"
        at = self._stored.offset
        where = "" if at is None else f" (from byte {at + first * self._stored.row_bytes} of the file on)"
        rows = f"{what} {first} to {last} of {self._stored.name!r}{where}"
        return DataError(
            f"{self._file.path}: {rows} differ from the index {side.name}: the file was changed or damaged "
            "since; run hpcml index again if the change was meant"
        )
