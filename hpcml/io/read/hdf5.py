"""X, y, weight and offset of one HDF5 file: found, checked by their metadata, and located."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from hpcml.errors import DataError
from hpcml.io.read.handle import identity_of
from hpcml.io.read.layout import Segment, TableLayout
from hpcml.io.read.opened import KnownFile
from hpcml.io.read.opening import check_declared, check_written, found, open_file
from hpcml.io.read.stored import StoredArray, stored_array

__all__ = ["Columns", "Located", "locate"]

_CSR = ("data", "indices", "indptr")


class Columns(NamedTuple):
    """The names of columns in a file; X is a data set of rows or a group in CSR form.

    Offsets are in `offset`, or they are the logarithms of what is in `exposure`.
    """

    x: str = "X"
    y: str | None = "y"
    weight: str | None = None
    offset: str | None = None
    exposure: str | None = None


class Located(NamedTuple):
    """Where the rows of a file lie, what it was found with, and names of the columns of X.

    Attributes
    ----------
    layout : TableLayout
    descriptor : int
        Of the open file.
    feature_names : list of str or None
    library : h5py.File or None
        The same open file, where HDF5 must read rows of it.
    """

    layout: TableLayout
    descriptor: int
    feature_names: list[str] | None
    library: h5py.File | None = None

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
        if self.library is not None:
            self.library.close()


def locate(path: Path, names: Columns, *, allow_external: bool = False) -> Located:
    """Return where the columns of a file lie. Local; opens it once, its virtual sources twice.

    What it was found with is the caller's to close.

    Raises
    ------
    DataError
        The file cannot be opened, lacks a data set, or shapes and types do not fit together.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_file(path))
        layout = _File(path, file, allow_external).layout(names)
        features = _feature_names(file, layout.n_features)
        is_needed = 0 in layout.read_by_library
        one = Located(layout, os.dup(file.id.get_vfd_handle()), features, file if is_needed else None)
        if is_needed:
            stack.pop_all()
        return one


def _feature_names(file: h5py.File, n_features: int) -> list[str] | None:
    """Return the names of the columns where the file itself has one for each."""
    if not isinstance(file.get("feature_names", getlink=True), h5py.HardLink):
        return None
    texts = file["feature_names"]
    if not isinstance(texts, h5py.Dataset) or texts.shape != (n_features,):
        return None
    return [str(text) for text in texts.asstr()[()]] if h5py.check_string_dtype(texts.dtype) else None


class _File:
    """One open file while its data sets are located."""

    def __init__(self, path: Path, file: h5py.File, allow_external: bool) -> None:
        self.path = path
        self._file = file
        self._allow_external = allow_external
        identity = identity_of(os.fstat(file.id.get_vfd_handle()))
        self.files = [KnownFile(path, identity)]

    def layout(self, names: Columns) -> TableLayout:
        """Return the layout of the table that the data sets make."""
        item = self._found(names.x, (h5py.Dataset, h5py.Group))
        is_sparse = isinstance(item, h5py.Group)
        (n, d), parts = self._csr(names.x, item) if is_sparse else self._dense(names.x, item)
        if n == 0 or d == 0:
            raise DataError(f"{self.path}: {names.x!r} has {n} rows and {d} columns")
        columns = {"X": parts}
        for role, name in zip(names._fields[1:], names[1:], strict=True):
            if name is not None:
                columns[role] = self._column(name, names.x, n)
        texts = self._file.attrs.get("classes")
        labels = None if texts is None else [str(text) for text in texts]
        return TableLayout(n, d, is_sparse, self.files, columns, labels)

    def _found(self, name: str, kinds: type | tuple[type, ...]) -> Any:
        return found(self._file, name, kinds, allow_external=self._allow_external)

    def _dense(self, name: str, item: h5py.Dataset) -> tuple[tuple[int, int], list[Segment]]:
        if item.shape is not None and item.ndim != 2:
            raise DataError(f"{self.path}: {name!r} has shape {item.shape}; X needs rows and columns")
        parts = self._segments(name, item)
        return (int(item.shape[0]), int(item.shape[1])), parts

    def _column(self, name: str, x: str, n_rows: int) -> list[Segment]:
        item = self._found(name, h5py.Dataset)
        if item.shape not in ((n_rows,), (n_rows, 1)):
            sizes = f"{x!r} has {n_rows} rows and {name!r} has shape {item.shape}"
            raise DataError(f"{self.path}: {sizes}; it must be one column of as many numbers")
        return self._segments(name, item)

    def _segments(self, name: str, item: h5py.Dataset) -> list[Segment]:
        """Return the parts of a data set of rows, those of its sources where it is virtual."""
        self._check(name, item, "fiub", "is not numeric")
        if not item.is_virtual:
            return [Segment(0, int(item.shape[0]), 0, self._number(item), (stored_array(item),))]
        from hpcml.io.read.virtual import virtual_parts  # few data sets are virtual

        parts = virtual_parts(item, self.path, allow_external=self._allow_external)
        segments = []
        for part in parts:
            number, stored = self._source(part.path, part.name)
            segments.append(
                Segment(part.start, part.start + part.n_rows, part.source_start, number, (stored,))
            )
        return segments

    def _number(self, item: h5py.Dataset) -> int:
        """Return the number of the file that holds a data set: a link may have led to another one."""
        file = item.file
        known = KnownFile(Path(file.filename), identity_of(os.fstat(file.id.get_vfd_handle())))
        if known not in self.files:
            self.files.append(known)
        return self.files.index(known)

    def _source(self, path: Path, name: str) -> tuple[int, StoredArray]:
        """Return the number of a virtual data set's source file, and where its data set lies."""
        if path == self.path:
            return 0, stored_array(self._found(name, h5py.Dataset))
        with open_file(path) as file:
            item = found(file, name, h5py.Dataset, allow_external=self._allow_external)
            return self._number(item), stored_array(item)

    def _check(self, name: str, item: h5py.Dataset, kinds: str, sentence: str) -> None:
        """Refuse what is of the wrong type, or not wholly there."""
        check_declared(item)
        if item.dtype.kind not in kinds:
            raise DataError(f"{self.path}: {name!r} {sentence} (its type is {item.dtype})")
        check_written(item)

    def _csr(self, name: str, group: h5py.Group) -> tuple[tuple[int, int], list[Segment]]:
        missing = {part for part in _CSR if part not in group}
        if missing or "shape" not in group.attrs:
            what = sorted(missing) or ["the attribute 'shape'"]
            raise DataError(f"{self.path}: the group {name!r} is not in CSR form: it lacks {', '.join(what)}")
        items = [self._found(f"{name}/{part}", h5py.Dataset) for part in _CSR]
        shape = np.asarray(group.attrs["shape"])
        if shape.shape != (2,) or shape.dtype.kind not in "iu":
            raise DataError(f"{self.path}: the attribute 'shape' of {name!r} is not two numbers")
        self._check(f"{name}/data", items[0], "fiub", "is not numeric")
        for part, item in zip(_CSR[1:], items[1:], strict=True):
            self._check(f"{name}/{part}", item, "iu", "must hold integers")
        n, d = map(int, shape)
        self._check_borders(name, items, n)
        if any(item.is_virtual for item in items):
            raise DataError(f"{self.path}: {name!r} is virtual; give the files of its parts in data.path")
        numbers = {self._number(item) for item in items}
        if len(numbers) > 1:
            raise DataError(f"{self.path}: the arrays of {name!r} lie in several files; bring them into one")
        return (n, d), [Segment(0, n, 0, numbers.pop(), tuple(map(stored_array, items)))]

    def _check_borders(self, name: str, items: list[h5py.Dataset], n: int) -> None:
        data, indices, indptr = items
        if indptr.shape != (n + 1,) or data.ndim != 1 or data.shape != indices.shape:
            raise DataError(f"{self.path}: the CSR arrays of {name!r} do not fit the shape of {n} rows")
        first, last = int(indptr[0]), int(indptr[-1])
        if first != 0:
            raise DataError(f"{self.path}: {name}/indptr starts at {first}, not at 0")
        if last != data.shape[0]:
            raise DataError(f"{self.path}: {name}/indptr ends at {last}, not at {data.shape[0]}")
