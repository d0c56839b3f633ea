"""Write one HDF5 file from all ranks without MPI-IO.

Rank 0 lays out contiguous, allocated data sets and closes the file; each rank then writes its own bytes at
the data sets' offsets; digests, the rename and the directory's fsync come last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.rows import Encoding, RowRun, index_type
from hpcml.io.files import put_in_place
from hpcml.io.write.device import PAGE, Device, opened, reserve, write_all, writing

__all__ = ["write_table"]

_UNIT_BYTES = 4 << 20
"""Bytes of a data set whose SHA-256 is one term of the content digest: part of the format."""
_ROWS_BYTES = 8 << 20
_MARGIN = 1 << 20


@dataclass(frozen=True)
class _Array:
    """A data set to be written by all ranks."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass
class _Layout:
    """The data sets, the texts around them, and where the data sets lie."""

    arrays: list[_Array]
    attributes: dict[str, Any]
    features: list[str]
    csr: tuple[str, tuple[int, int]] | None
    offsets: dict[str, int] = field(default_factory=dict)


def write_table(
    comm: Communicator, destination: Path, coded: Encoding, recipe: Recipe, attributes: Mapping[str, Any]
) -> str:
    """Write X, y, names and attributes; return the content digest.

    Collective, about nine small messages. The file is complete or absent; an older one stays until the
    rename.

    Parameters
    ----------
    comm : Communicator
    destination : Path
    coded : Encoding
    recipe : Recipe
    attributes : mapping
        Of the root group, numbers and texts; `hpcml_digest` comes on top.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    layout = _make_layout(coded, recipe, attributes)
    aside = destination.with_name(comm.bcast(f".{destination.name}.{os.getpid()}.part"))
    try:
        with agreed(comm), writing(destination):
            if comm.rank == 0:
                _lay_out(aside, layout)
        layout.offsets = comm.bcast(layout.offsets)
        with agreed(comm), writing(destination), opened(aside, os.O_WRONLY) as handle:
            _write_rows(handle, layout, coded, recipe, first=comm.rank == 0)
            os.fsync(handle)
        digest = _digest(comm, aside, destination, layout, coded)
        with agreed(comm), writing(destination):
            if comm.rank == 0:
                _finish(aside, destination, digest)
    except BaseException:
        if comm.rank == 0:
            with suppress(OSError):
                aside.unlink()
        raise
    return digest


def _make_layout(coded: Encoding, recipe: Recipe, attributes: Mapping[str, Any]) -> _Layout:
    """Return what to write; the same on every rank."""
    n, d = coded.n_samples, coded.n_features
    labels = [] if not coded.labelled else [_Array(recipe.y, (n,), np.dtype("<f8"))]
    if coded.layout == "dense":
        rows = [_Array(recipe.x, (n, d), np.dtype(coded.dtype))]
        return _Layout([*rows, *labels], dict(attributes), coded.features, None)
    parts = [
        _Array(f"{recipe.x}/data", (coded.n_entries,), np.dtype(coded.dtype)),
        _Array(f"{recipe.x}/indices", (coded.n_entries,), index_type(d)),
        _Array(f"{recipe.x}/indptr", (n + 1,), np.dtype("<i8")),
    ]
    return _Layout([*parts, *labels], dict(attributes), coded.features, (recipe.x, (n, d)))


@contextmanager
def _hdf5(path: Path, mode: str) -> Iterator[Any]:
    """Open a file of this module's making with HDF5."""
    with opened(path, os.O_RDWR) as handle:
        device = Device(handle, 0 if mode == "w" else os.fstat(handle).st_size)
        try:
            # Default libver: files must open with HDF5 1.10. Aligned data sets suit memory maps.
            with h5py.File(device, mode, alignment_threshold=PAGE, alignment_interval=PAGE) as file:
                yield file
        except Exception:
            if device.error is not None:
                raise device.error from None
            raise
        if device.error is not None:
            raise device.error
        os.fsync(handle)


def _lay_out(path: Path, layout: _Layout) -> None:
    """Make the file with room for everything, fill in what is small, and note the offsets."""
    texts = sum(len(str(value)) for value in (*layout.features, *layout.attributes.values()))
    needed = sum(array.n_bytes + PAGE for array in layout.arrays) + 8 * texts + _MARGIN
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as handle:
        reserve(handle, needed)
    with _hdf5(path, "w") as file:
        for array in layout.arrays:
            dataset = _make_dataset(file, array)
            layout.offsets[array.name] = int(dataset.get_offset() or 0)
        if layout.csr is not None:
            file[layout.csr[0]].attrs["shape"] = np.array(layout.csr[1], np.int64)
        for name, value in layout.attributes.items():
            file.attrs[name] = value
        file.attrs["hpcml_digest"] = np.bytes_(b"0" * 64)
        if layout.features:
            names = [name.encode() for name in layout.features]
            kind = h5py.string_dtype("utf-8", max(len(name) for name in names))
            file.create_dataset("feature_names", data=np.array(names, dtype=kind), track_times=False)
    with opened(path, os.O_RDWR) as handle:
        reserve(handle, os.fstat(handle).st_size)


def _make_dataset(file: Any, array: _Array) -> Any:
    """Create a contiguous data set whose place in the file is fixed now."""
    if "/" in array.name.strip("/"):
        file.require_group(array.name.rpartition("/")[0])
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    space = h5py.h5s.create_simple(array.shape)
    kind = h5py.h5t.py_create(array.dtype)
    return h5py.h5d.create(file.id, array.name.encode(), kind, space, creation)


def _write_rows(handle: int, layout: _Layout, coded: Encoding, recipe: Recipe, *, first: bool) -> None:
    """Write this rank's rows, some megabytes at a time."""

    def put(name: str, index: int, values: NDArray[Any]) -> None:
        array = np.ascontiguousarray(values)
        width = array.nbytes // max(array.shape[0], 1)
        write_all(handle, array.reshape(-1), layout.offsets[name] + index * width)

    if first and coded.layout == "csr":
        put(f"{recipe.x}/indptr", 0, np.zeros(1, np.int64))
    for run in coded.runs:
        if coded.layout == "dense":
            _put_dense(put, run, recipe)
        else:
            _put_csr(put, run, recipe)
        if run.y is not None:
            put(recipe.y, run.start, run.y)


_Put: TypeAlias = "Callable[[str, int, NDArray[Any]], None]"


def _put_dense(put: _Put, run: RowRun, recipe: Recipe) -> None:
    for start, stop in _steps(run, "dense"):
        put(recipe.x, run.start + start, run.rows.dense(start, stop))


def _put_csr(put: _Put, run: RowRun, recipe: Recipe) -> None:
    entry = run.entry
    for start, stop in _steps(run, "csr"):
        rows = run.rows.csr(start, stop)
        put(f"{recipe.x}/data", entry, rows.data)
        put(f"{recipe.x}/indices", entry, rows.indices)
        put(f"{recipe.x}/indptr", run.start + start + 1, entry + np.cumsum(rows.counts))
        entry += rows.data.size


def _steps(run: RowRun, layout: str) -> Iterator[tuple[int, int]]:
    step = max(_ROWS_BYTES // (run.rows.width(layout) * 8), 1)
    for start in range(0, run.n_rows, step):
        yield start, min(start + step, run.n_rows)


def _digest(comm: Communicator, aside: Path, destination: Path, layout: _Layout, coded: Encoding) -> str:
    """Return the SHA-256 over names, shapes and the units' SHA-256. Collective, three messages.

    Units are counted from a data set's start, so the digest is a function of the content. They are read
    back through a new handle: what is digested is what the file holds.
    """
    units = [(array, at) for array in layout.arrays for at in range(0, array.n_bytes, _UNIT_BYTES)]
    mine: list[str] = []
    first, last = (len(units) * r // comm.size for r in (comm.rank, comm.rank + 1))
    with agreed(comm), writing(destination), opened(aside, os.O_RDONLY) as handle:
        for array, start in units[first:last]:
            size = min(_UNIT_BYTES, array.n_bytes - start)
            content = os.pread(handle, size, layout.offsets[array.name] + start)
            mine.append(hashlib.sha256(content).hexdigest())
    shapes = [[array.name, array.shape, array.dtype.str] for array in layout.arrays]
    whole = [shapes, coded.features, coded.classes, [one for part in comm.allgather(mine) for one in part]]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _finish(aside: Path, destination: Path, digest: str) -> None:
    """Note the digest in the place that is kept for it, and give the file its name."""
    with _hdf5(aside, "r+") as file:
        file.attrs.modify("hpcml_digest", np.bytes_(digest.encode()))
    put_in_place(aside, destination)
