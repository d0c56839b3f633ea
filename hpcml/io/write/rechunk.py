"""Write an HDF5 file again, its rows stored in another way: the content stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, OutputError, SpecError
from hpcml.io.index.compare import compare_with_index
from hpcml.io.read.array_reader import read_rows
from hpcml.io.read.handle import identity_of
from hpcml.io.read.opening import check_declared, check_written, found, open_file
from hpcml.io.read.virtual import virtual_parts
from hpcml.io.write.chunks import Batch, write_file
from hpcml.io.write.filters import Storage
from hpcml.io.write.output import Array
from hpcml.io.write.turns import one_writer

__all__ = ["RechunkReport", "Target", "rechunk"]

_NUMERIC = "fiub"
_CSR = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Target:
    """How the copy is stored.

    Parameters
    ----------
    storage : Storage
        Of every numeric data set; with `chunk_rows`, those of a CSR group's entries are its rows' entries.
    dtype : {None, "float32", "float64"}
        Of floating-point X: data sets with two dimensions, and `data` of CSR groups. None keeps the type.

    Raises
    ------
    SpecError
        Another dtype.
    """

    storage: Storage
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "float64"):
            raise SpecError(f"dtype: {self.dtype!r} does not fit; write float32 or float64")


class RechunkReport(NamedTuple):
    """What was written; the same on every rank."""

    path: Path
    n_datasets: int
    bytes_before: int
    bytes_after: int


def rechunk(
    comm: Communicator,
    source: Path,
    destination: Path,
    target: Target,
    say: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> RechunkReport:
    """Copy an HDF5 file with every numeric data set stored as `target` says.

    Collective; messages as `hpcml.io.write.chunks.write_file`, and eleven more. Groups, attributes, texts and
    soft links are copied. The file has the same bytes for any number of ranks, and is complete or absent.

    Parameters
    ----------
    comm : Communicator
    source, destination : Path
    target : Target
    say : callable
        Takes a line for the user, on the first rank.
    overwrite : bool
        Replace a file that stands at `destination`.

    Raises
    ------
    SpecError
        `destination` is `source`.
    DataError
        The source cannot be read whole: truncated, chunks that were never written, changed while it was
        read, a link out of the file; or a number that float32 cannot hold.
    OutputError
        For want of space, quota or permission, or a file stands at `destination`.
    """
    with one_writer(comm, destination, say):
        with agreed(comm):
            if comm.rank == 0:
                _check_names(source, destination, overwrite)
        compare_with_index(comm, source)
        with _opened(comm, source) as file:
            with agreed(comm):
                content = _Content(file, target, say)
            write_file(comm, destination, content.batches, content.decorate, content.check)
    sizes = [source.stat().st_size, destination.stat().st_size] if comm.rank == 0 else None
    before, after = comm.bcast(sizes)
    return RechunkReport(destination, len(content.batches), before, after)


def _check_names(source: Path, destination: Path, overwrite: bool) -> None:
    if not destination.exists():
        return
    if source.exists() and os.path.samefile(source, destination):
        raise SpecError(f"{destination} is the file to be read; name another one to write")
    if not destination.is_file():
        raise OutputError(f"cannot write {destination}: it is no regular file")
    if not overwrite:
        raise OutputError(f"{destination} is there; give --overwrite to replace it, or name another path")


@contextmanager
def _opened(comm: Communicator, source: Path) -> Iterator[Any]:
    """Open the source on every rank. Collective, one message."""
    file = None
    try:
        with agreed(comm):
            file = open_file(source)
        yield file
    finally:
        if file is not None:
            file.close()


class _Content:
    """What is in a file: data sets to be stored anew, and the rest, to be copied as it is."""

    def __init__(self, file: Any, target: Target, say: Callable[[str], None]) -> None:
        self._file = file
        self._target = target
        self._say = say
        self._groups: list[str] = []
        self._links: dict[str, str] = {}
        self._texts: list[str] = []
        self.batches: list[Batch] = []
        self._new_values = False
        self._identity = identity_of(os.stat(file.filename))
        self._walk("", {})

    def _walk(self, path: str, seen: dict[Any, str]) -> None:
        """Note what a group holds; a second name of what was found becomes a soft link."""
        group = self._file[path or "/"]
        seen[h5py.h5o.get_info(group.id).addr] = path
        for name in group:
            below = f"{path}/{name}".lstrip("/")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                self._links[below] = link.path
                continue
            item = found(self._file, below, (h5py.Dataset, h5py.Group, h5py.Datatype))
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                self._links[below] = "/" + seen[address]
            elif isinstance(item, h5py.Group):
                self._groups.append(below)
                self._walk(below, seen)
            else:
                seen[address] = below
                self._add(below, item)

    def _add(self, name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or not item.shape:
            self._texts.append(name)
            return
        check_declared(item)
        check_written(item)
        if item.dtype.kind not in _NUMERIC:
            self._texts.append(name)
            return
        if item.is_virtual:
            virtual_parts(item, Path(self._file.filename))  # opens and checks every source
        array = Array(name, tuple(map(int, item.shape)), self._dtype(item), self._storage(item))
        self._new_values |= array.dtype != item.dtype
        step = int(item.chunks[0]) if item.chunks else 1
        self.batches.append(Batch((array,), partial(_read, item, array.dtype), step))

    def _dtype(self, item: Any) -> np.dtype[Any]:
        is_x = item.ndim == 2 or (_is_csr(item.parent) and item.name.endswith("/data"))
        changes = self._target.dtype is not None and item.dtype.kind == "f" and is_x
        return np.dtype(self._target.dtype) if changes else item.dtype

    def _storage(self, item: Any) -> Storage:
        """Return how a data set is stored: chunks of entries hold about `chunk_rows` rows."""
        storage = self._target.storage
        if storage.chunk_rows is None or not _is_csr(item.parent) or item.name.endswith("/indptr"):
            return storage
        mean = item.shape[0] / max(item.parent["indptr"].shape[0] - 1, 1)
        return replace(storage, chunk_rows=max(round(storage.chunk_rows * mean), 1))

    def check(self) -> None:
        """Raise a DataError if the file is no longer what it was."""
        path = self._file.filename
        try:
            stayed = identity_of(os.stat(path)) == self._identity
        except OSError:
            stayed = False
        if not stayed:
            raise DataError(f"{path}: was replaced or changed while it was read")

    def decorate(self, into: Any) -> None:
        """Copy all that is small into the new file."""
        for name in self._groups:
            into.require_group(name)
        for name in self._texts:
            self._file.copy(self._file[name], into, name)
        for name, path in self._links.items():
            into[name] = h5py.SoftLink(path)
        renewed = [batch.arrays[0].name for batch in self.batches]
        for name in ["/", *self._groups, *renewed]:
            self._copy_attributes(name, into)

    def _copy_attributes(self, name: str, into: Any) -> None:
        source, copy = self._file[name].attrs, into[name].attrs
        for key in source:
            identity = source.get_id(key)
            if h5py.check_ref_dtype(identity.dtype) is not None:
                self._say(
                    f"left out: the attribute {key!r} of {name!r}, which refers to places in the source"
                )
            elif not (self._new_values and name == "/" and key.startswith("hpcml_")):
                # What hpcml noted of a file's making and digest is not true of other numbers.
                value = source[key]
                shape = None if isinstance(value, h5py.Empty) else identity.shape
                copy.create(key, value, shape=shape, dtype=identity.dtype)


def _is_csr(group: Any) -> bool:
    return set(_CSR) <= set(group)


def _read(item: Any, dtype: np.dtype[Any], start: int, stop: int) -> tuple[NDArray[Any]]:
    """Return rows of a data set. Local.

    Raises
    ------
    DataError
        They cannot be read, or the type cannot hold them.
    """
    where = f"{item.file.filename}: rows {start} to {stop} of {item.name[1:]!r}"
    values = np.empty((stop - start, *item.shape[1:]), item.dtype)
    read_rows(item, start, stop, values)
    if values.dtype == dtype:
        return (values,)
    with np.errstate(over="raise"):
        try:
            return (values.astype(dtype),)
        except FloatingPointError:
            raise DataError(
                f"{where} hold numbers that are too large for {dtype}; keep the type, or scale them"
            ) from None
