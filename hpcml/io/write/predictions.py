"""Predictions in a file: one plain HDF5 file, or a virtual one over parts that ranks wrote for themselves.

Large predictions never meet in one place. Each rank writes its rows to parts in ``OUT.parts/TOKEN``; OUT,
written last, is a virtual HDF5 file over them that holds the digest of their manifest. The directory goes
wherever OUT goes. Each writing has a token of its own: an older OUT stays whole until the new one is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.collectives.gathering import on_first
from hpcml.errors import HpcmlError, OutputError
from hpcml.io.files import digest_of, write_bytes
from hpcml.io.image import hdf5_image, image_of

__all__ = ["MANIFEST", "Columns", "parts_directory", "remove_parts", "write_predictions"]

Columns = Mapping[str, NDArray[Any]]
"""Arrays by name with the same number of rows; each (rows,) or (rows, n)."""
PLAIN_BYTES = 64 << 20
PART_BYTES = 16 << 20
MANIFEST = "manifest.json"
_TOKEN = re.compile(r"[0-9a-f]{16}")


class _Part(NamedTuple):
    """A file of consecutive rows of the result."""

    file: str
    rows: int
    digest: str


def parts_directory(path: Path) -> Path:
    """Return where the parts of a file of predictions lie. Local."""
    return path.with_name(path.name + ".parts")


def write_predictions(
    comm: Communicator,
    path: Path,
    columns: Iterable[Columns],
    nothing: Columns,
    n_rows: int,
    about: Mapping[str, Any],
) -> None:
    """Write the rows of all ranks in rank order, complete or not at all.

    Collective: four small messages; for less than 64 MiB one that brings the rows of each column to the first
    rank, too. Such a file is the same to the byte for any number of ranks; a larger one gives the same data,
    and each rank holds about six times a part of 16 MiB and what `columns` yields.

    Parameters
    ----------
    comm : Communicator
    path : Path
        What stands there is replaced.
    columns : iterable of Columns
        My rows in order, some at a time, made while they are written.
    nothing : Columns
        The same columns without rows.
    n_rows : int
        Over all ranks.
    about : mapping
        Goes into the file as JSON.

    Raises
    ------
    OutputError
        For want of space, quota or permission; nothing of the new file is left, an older one is untouched.
    HpcmlError
        What `columns` raises.
    """
    row_bytes = sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in nothing.values())
    if n_rows * row_bytes < PLAIN_BYTES:
        _write_plain(comm, path, columns, nothing, about)
        kept = None
    else:
        kept = _write_parts(comm, path, _in_parts(columns, max(1, PART_BYTES // row_bytes)), nothing, about)
    if comm.rank == 0:
        remove_parts(path, but=kept)


def refuse_other_files(path: Path) -> None:
    """Refuse to replace what holds no predictions. Local.

    Raises
    ------
    OutputError
        It names the file.
    """
    if not path.name:
        raise OutputError(f"cannot write {path}: it is a directory")
    if not os.path.lexists(path):
        return
    try:
        with h5py.File(path, "r", locking=False) as file:
            if {"row", "prediction"} <= set(file):
                return
    except OSError:
        pass
    raise OutputError(f"{path} is there and holds no predictions: move it, or name another path")


def remove_parts(path: Path, but: str | None = None) -> None:
    """Remove what earlier writings of `path` left beside it; never what is not theirs. Local."""
    directory = parts_directory(path)
    if directory.is_symlink() or not directory.is_dir():
        return
    for folder in directory.iterdir():
        if _TOKEN.fullmatch(folder.name) and folder.name != but and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it is not empty
        directory.rmdir()


def _joined(nothing: Columns, columns: Iterable[Columns]) -> dict[str, NDArray[Any]]:
    several = list(columns)
    return {name: np.concatenate([empty, *(one[name] for one in several)]) for name, empty in nothing.items()}


def _write_plain(
    comm: Communicator, path: Path, columns: Iterable[Columns], nothing: Columns, about: Mapping[str, Any]
) -> None:
    mine = dict(nothing)
    with agreed(comm):
        mine = _joined(nothing, columns)
    everything = {
        name: on_first(comm, array.reshape(-1)).reshape(-1, *array.shape[1:]) for name, array in mine.items()
    }
    with agreed(comm):
        if comm.rank == 0:
            write_bytes(path, hdf5_image(everything, about))


def _in_parts(columns: Iterable[Columns], n_rows: int) -> Iterator[Columns]:
    """Yield the same rows, `n_rows` at a time."""
    held: list[Columns] = []
    n_held = 0
    for some in columns:
        n_new, start = len(next(iter(some.values()))), 0
        while start < n_new:
            stop = min(n_new, start + n_rows - n_held)
            held.append({name: array[start:stop] for name, array in some.items()})
            n_held, start = n_held + stop - start, stop
            if n_held == n_rows:
                yield _stacked(held)
                held, n_held = [], 0
    if held:
        yield _stacked(held)


def _stacked(several: list[Columns]) -> Columns:
    return {name: np.concatenate([one[name] for one in several]) for name in several[0]}


def _write_parts(
    comm: Communicator, path: Path, parts: Iterable[Columns], nothing: Columns, about: Mapping[str, Any]
) -> str:
    """Write parts, their manifest and the virtual file; return the token. Collective."""
    token = str(comm.bcast(os.urandom(8).hex()))
    folder = parts_directory(path) / token
    mine: list[_Part] = []
    try:
        with agreed(comm):
            mine.extend(_write_part(folder, comm.rank, i, part) for i, part in enumerate(parts))
        everyone = [_Part(*one) for some in comm.allgather(mine) for one in some]
        with agreed(comm):
            if comm.rank == 0:
                _write_virtual(path, folder, everyone, nothing, about)
    except HpcmlError:
        if comm.rank == 0:  # every rank has ended its writing
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()
        raise
    return token


def _write_part(folder: Path, rank: int, i: int, columns: Columns) -> _Part:
    name = f"part-{rank:05d}-{i:05d}.h5"
    image = hdf5_image(columns, {"part of": folder.parent.name.removesuffix(".parts")})
    write_bytes(folder / name, image)
    return _Part(name, len(next(iter(columns.values()))), digest_of(image))


def _write_virtual(
    path: Path, folder: Path, parts: list[_Part], nothing: Columns, about: Mapping[str, Any]
) -> None:
    if not all((folder / part.file).exists() for part in parts):
        raise OutputError(f"{path}: its parts were removed meanwhile: another job writes the same file")
    manifest = json.dumps({"format": 1, "parts": [part._asdict() for part in parts]}, indent=1).encode()
    write_bytes(folder / MANIFEST, manifest)
    relative = f"{folder.parent.name}/{folder.name}"

    def fill(file: h5py.File) -> None:
        for name, empty in nothing.items():
            _add_virtual(file, name, empty, relative, parts)

    write_bytes(path, image_of(fill, {**about, "parts": relative, "manifest": digest_of(manifest)}))


def _add_virtual(file: h5py.File, name: str, empty: NDArray[Any], relative: str, parts: list[_Part]) -> None:
    """Add a virtual data set over the parts, whose rows read as NaN or -1 where a part is missing."""
    layout = h5py.VirtualLayout((sum(part.rows for part in parts), *empty.shape[1:]), empty.dtype)
    start, folder = 0, relative.replace("%", "%%")  # to HDF5, %b is a number that counts files
    for part in parts:
        shape = (part.rows, *empty.shape[1:])
        layout[start : start + part.rows] = h5py.VirtualSource(
            f"{folder}/{part.file}", name, shape, empty.dtype
        )
        start += part.rows
    file.create_virtual_dataset(name, layout, fillvalue=np.nan if empty.dtype.kind == "f" else -1)
