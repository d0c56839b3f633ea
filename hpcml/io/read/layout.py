"""Which rows of which files make X, y and the other columns: plain data, looked up by one rank for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpcml.data import Source
from hpcml.errors import DataError
from hpcml.io.read.decode import can_decode
from hpcml.io.read.handle import FileIdentity
from hpcml.io.read.opened import KnownFile
from hpcml.io.read.stored import StoredArray

if TYPE_CHECKING:
    from hpcml.io.index.side_file import FileIndex

__all__ = ["Segment", "TableLayout", "joined"]


class Segment(NamedTuple):
    """Rows ``start:stop`` of the table: those from `source_start` on of arrays in a file.

    `arrays` are one array of rows, or `data`, `indices` and `indptr`.
    """

    start: int
    stop: int
    source_start: int
    file: int
    arrays: tuple[StoredArray, ...]

    def to_json(self) -> list[Any]:
        """Return what JSON can say of it. Local."""
        return [*self[:4], [array.to_json() for array in self.arrays]]

    @classmethod
    def from_json(cls, tree: list[Any]) -> Segment:
        """Return what `to_json` said. Local."""
        *numbers, arrays = tree
        return cls._make([*numbers, tuple(map(StoredArray.from_json, arrays))])


def _file_index(tree: list[Any]) -> FileIndex:
    from hpcml.io.index.side_file import FileIndex  # few files have one

    return FileIndex.from_json(tree)


@dataclass(frozen=True)
class TableLayout:
    """Where the rows of a table lie.

    Parameters
    ----------
    n_samples, n_features : int
    is_sparse : bool
    files : list of KnownFile
    columns : dict of str to list of Segment
        "X", and "y", "weight", "offset" or "exposure" where they are there; the segments of each tile all
        rows.
    labels : list of str or None
        The texts that the labels 0, 1, ... stand for.
    indexes : list of FileIndex or None
        Of each file, where rows are to be compared with them; else empty.
    """

    n_samples: int
    n_features: int
    is_sparse: bool
    files: list[KnownFile]
    columns: dict[str, list[Segment]] = field(default_factory=dict)
    labels: list[str] | None = None
    indexes: list[FileIndex | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can say of it. Local."""
        columns = {name: [one.to_json() for one in parts] for name, parts in self.columns.items()}
        files = [[str(path), *identity] for path, identity in self.files]
        indexes = [one and one.to_json() for one in self.indexes]
        return {**vars(self), "files": files, "columns": columns, "indexes": indexes}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> TableLayout:
        """Return what `to_json` said. Local."""
        files = [KnownFile(Path(path), FileIdentity(*identity)) for path, *identity in tree["files"]]
        columns = {name: [Segment.from_json(one) for one in parts] for name, parts in tree["columns"].items()}
        indexes = [one and _file_index(one) for one in tree["indexes"]]
        return cls(**{**tree, "files": files, "columns": columns, "indexes": indexes})

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type that holds the values of X in every file."""
        return np.result_type(*(part.arrays[0].dtype for part in self.columns["X"])).newbyteorder("=")

    @property
    def read_by_library(self) -> set[int]:
        """The numbers of the files that have rows which HDF5 alone can read."""
        known = cache(can_decode)  # asked once for all files
        return {
            part.file
            for part in chain(*self.columns.values())
            for stored in part.arrays
            if not stored.is_flat and (stored.chunks is None or not known(stored.filter_numbers))
        }

    def source(self, itemsize: int) -> Source:
        """Return what decides the partition of X with items of this size in memory. Local."""
        parts = self.columns["X"]
        if self.is_sparse:
            n_entries = sum(part.arrays[0].shape[0] for part in parts)
            return Source(self.n_samples, self.n_features, n_entries / self.n_samples * (itemsize + 4))
        return Source(self.n_samples, self.n_features, self.n_features * itemsize, _chunk_rows(parts))


def _chunk_rows(parts: Sequence[Segment]) -> int:
    """Return the rows of the chunks where all of them lie on one grid of rows, else 1."""
    rows = {part.arrays[0].chunk_rows for part in parts}
    grid = rows.pop() if len(rows) == 1 else 1
    on_it = all(gcd(part.start - part.source_start, grid) == grid for part in parts)
    return grid if on_it else 1


def joined(tables: Sequence[TableLayout]) -> TableLayout:
    """Return the table of the rows of all tables in order. Local.

    Raises
    ------
    DataError
        They differ in columns, form, labels or what they lack; it names the first that does.
    """
    first = tables[0]
    for table in tables[1:]:
        _check_alike(first, table)
    columns: dict[str, list[Segment]] = {name: [] for name in first.columns}
    for table, row, file in _places(tables):
        for name, parts in table.columns.items():
            columns[name] += [
                one._replace(start=one.start + row, stop=one.stop + row, file=one.file + file)
                for one in parts
            ]
    return TableLayout(
        sum(table.n_samples for table in tables),
        first.n_features,
        first.is_sparse,
        [file for table in tables for file in table.files],
        columns,
        first.labels,
        [index for table in tables for index in table.indexes],
    )


def _places(tables: Sequence[TableLayout]) -> Iterator[tuple[TableLayout, int, int]]:
    """Yield each table with the number of its first row and of its first file."""
    row = file = 0
    for table in tables:
        yield table, row, file
        row, file = row + table.n_samples, file + len(table.files)


def _check_alike(first: TableLayout, other: TableLayout) -> None:
    facts: dict[str, Callable[[TableLayout], Any]] = {
        "columns": lambda table: table.n_features,
        "form": lambda table: "CSR" if table.is_sparse else "dense",
        "data sets": lambda table: ", ".join(table.columns),
        "label texts": lambda table: table.labels,
    }
    for what, fact in facts.items():
        if fact(first) != fact(other):
            here, there = first.files[0].path, other.files[0].path
            raise DataError(f"{there} has other {what} ({fact(other)}) than {here} ({fact(first)})")
