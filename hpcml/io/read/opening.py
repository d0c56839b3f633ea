"""HDF5 files opened to read, and what is found in them: followed link by link, checked before it is read.

HDF5 answers quietly with fill values for what was never written, and follows links to any file of the
machine. What is opened here is in the file that was named, and is there.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcml.errors import DataError
from hpcml.io.read.stored import chunk_grid, each_chunk
from hpcml.io.sizes import human_bytes

__all__ = [
    "ALLOW",
    "check_declared",
    "check_written",
    "expected_chunks",
    "external_sentence",
    "found",
    "link_sentence",
    "open_file",
    "readable",
]

_MOST_LINKS = 16  # as HDF5 follows
_LARGEST_CHUNK = 1 << 30
_FAR = 1024  # times the file: more than what a writer that died leaves declared
ALLOW = "set data.allow_external: true"
"""The cure of what leads out of a file, in the words of a spec."""
_EXTERNAL = f"{ALLOW} to follow it"


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file to read, without a lock, which some file systems do not have. Local.

    Raises
    ------
    DataError
        It is missing, unreadable, not a regular file, not HDF5, or truncated.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # HDF5 would wait for ever on a pipe
            raise DataError(f"{path}: {_kind_of(path)}, not an HDF5 file")
        # Whole chunks are read once each: a chunk cache would only copy them (rdcc_nbytes=0).
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: there is no such file") from None
    except PermissionError:
        raise DataError(f"{path}: permission denied") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: an HDF5 error of no known class
        raise DataError(f"{path}: {_why_not(path, error)}") from None


def _kind_of(path: Path) -> str:
    return "is a directory" if path.is_dir() else "is a pipe, a socket or a device"


def _why_not(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if not size:
        return "is not an HDF5 file: it has no bytes"
    if "truncated" in str(error):
        return f"is truncated: it has {size} bytes and its header speaks of more"
    if h5py.is_hdf5(path):
        return f"cannot be opened ({error})"
    is_table = {".csv", ".parquet", ".npy", ".gz", ".zip"} & set(path.suffixes)
    return "is not an HDF5 file" + ("; name it in data.source, or convert it first" if is_table else "")


def found(file: h5py.File, name: str, kinds: type | tuple[type, ...], *, allow_external: bool = False) -> Any:
    """Return what stands at a path in an open file, a data set or a group. Local.

    Every link is looked at before it is followed.

    Parameters
    ----------
    file : h5py.File
    name : str
        Parts joined by "/".
    kinds : type or tuple of type
        h5py.Dataset, h5py.Group or both.
    allow_external : bool
        Follow external links, and take a data set whose bytes lie in other files.

    Raises
    ------
    DataError
        Nothing is there, or another kind; a link or the bytes lead out of the file and may not; the header
        is damaged; a file of external bytes is missing or too short.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    item = _walked(file, name, allow_external)
    if not isinstance(item, kinds):
        wanted = "dataset" if h5py.Dataset in kinds else "group"
        raise DataError(f"{file.filename}: {name!r} is a {type(item).__name__.lower()}, not a {wanted}")
    if isinstance(item, h5py.Dataset) and (external := item.external):
        _check_external(file, name, external, allow_external)
    return item


def _walked(file: h5py.File, name: str, allow_external: bool) -> Any:
    here: Any = file["/"]
    parts = deque(name.split("/"))
    followed = 0
    while parts:
        part = parts.popleft()
        if part in ("", "."):
            continue
        link = _link(file, here, part, name)
        if isinstance(link, h5py.SoftLink):
            followed += 1
            if followed > _MOST_LINKS:
                raise DataError(f"{file.filename}: the soft links of {name!r} lead in a circle")
            target = readable(link.path)
            here = here.file["/"] if target.startswith("/") else here
            parts.extendleft(reversed(target.split("/")))
            continue
        if isinstance(link, h5py.ExternalLink) and not allow_external:
            raise DataError(f"{file.filename}: {link_sentence(name, link)}")
        here = _opened(file, here, part, link, name)
    return here


def _link(file: h5py.File, here: Any, part: str, name: str) -> Any:
    """Return the link called `part`, not followed."""
    try:
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: a name that HDF5 cannot have
        raise DataError(f"{file.filename}: {name!r} cannot be looked up ({error})") from None
    except TypeError:
        raise DataError(f"{file.filename}: {name!r} is a link of a kind that only its writer knows") from None
    if link is None:
        raise DataError(f"{file.filename}: there is no dataset {name!r}; the file has {_present(file)}")
    return link


def _opened(file: h5py.File, here: Any, part: str, link: Any, name: str) -> Any:
    try:
        return here[part]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        why = error.args[0] if error.args else error  # str() of a KeyError has quotes
        if isinstance(link, h5py.ExternalLink):
            why = f"external link to {link.path!r} in the file {link.filename!r}: {why}"
        raise DataError(f"{file.filename}: {name!r} cannot be opened ({why})") from None


def readable(name: str | bytes) -> str:
    """Return a name as text: h5py gives bytes where it is no UTF-8. Local."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def _present(file: h5py.File) -> str:
    names: list[str] = []

    def note(name: str | bytes) -> bool | None:
        names.append(readable(name))
        return True if len(names) > 20 else None  # anything but None ends the visit

    try:
        file.visit_links(note)
    except (OSError, RuntimeError):
        names.append("(the rest cannot be listed)")
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "nothing"


def _check_external(
    file: h5py.File, name: str, external: list[tuple[str, int, int]], allow_external: bool
) -> None:
    """Refuse bytes in other files, or where allowed see that they are there: HDF5 would give zeros."""
    if not allow_external:
        raise DataError(f"{file.filename}: {external_sentence(name, external)}")
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(Path(file.filename).parent))
    for outside, offset, size in external:
        path = Path(prefix, outside)
        if not path.is_file():
            raise DataError(f"{file.filename}: the file {str(path)!r} with bytes of {name!r} does not exist")
        there, end = path.stat().st_size, offset + size
        if size != h5py.h5f.UNLIMITED and there < end:
            raise DataError(f"{path}: has {there} bytes and {name!r} of {file.filename} needs {end}")


def link_sentence(name: str, link: h5py.ExternalLink) -> str:
    """Return why a link is not followed that leads out of the file. Local."""
    target = readable(link.path)
    return f"{name!r} is an external link to {target!r} in the file {link.filename!r}; {_EXTERNAL}"


def external_sentence(name: str, external: list[tuple[str, int, int]]) -> str:
    """Return why a data set is refused whose bytes lie in other files. Local."""
    return f"the bytes of {name!r} lie in the file {external[0][0]!r}; {_EXTERNAL}"


def _called(item: h5py.Dataset) -> str:
    return f"{item.file.filename}: {(item.name or '?').lstrip('/')!r}"


def expected_chunks(item: h5py.Dataset) -> int:
    """Return the number of chunks that a fully written data set of this shape has. Local."""
    return prod(chunk_grid(item))


def check_declared(item: h5py.Dataset) -> None:
    """Refuse a data set whose header claims more than its file can hold. Local; nothing is allocated or read.

    A virtual data set is not judged: its sources are.

    Raises
    ------
    DataError
        The stored bytes reach past the end of the file, or hold less than shape and type say; the shape is
        far larger than all that is stored; a chunk is over 1 GiB; there is no shape at all.
    """
    if item.shape is None:
        raise DataError(f"{_called(item)} is empty: it has a type and no shape")
    if item.is_virtual or item.external or not item.size:
        return
    declared = prod(item.shape) * item.id.get_type().get_size()
    file_bytes = os.stat(item.file.filename).st_size
    stored = item.id.get_storage_size()
    held = _held_in_chunks(item) if item.chunks else stored
    offset = None if item.chunks else item.id.get_offset()
    what = f"{_called(item)} declares {_shape(item)} ({human_bytes(declared)})"
    if stored + (offset or 0) > file_bytes:
        raise DataError(f"{what}, stored up to byte {stored + (offset or 0)} of a file of {file_bytes} bytes")
    if declared > held and (offset is not None or declared > _FAR * file_bytes):
        raise DataError(f"{what} and the file of {human_bytes(file_bytes)} holds {human_bytes(held)} of it")


def _shape(item: h5py.Dataset) -> str:
    return f"{' x '.join(map(str, item.shape)) or 'one'} {item.dtype}"


def _held_in_chunks(item: h5py.Dataset) -> int:
    chunk = int(prod(item.chunks)) * int(item.id.get_type().get_size())
    if chunk > _LARGEST_CHUNK:
        raise DataError(
            f"{_called(item)} has chunks of {human_bytes(chunk)}, and a chunk is only ever read whole; write "
            "it again with chunks of 1 to 16 MiB (h5repack can)"
        )
    return chunk * int(item.id.get_num_chunks())


def check_written(item: h5py.Dataset) -> None:
    """Refuse a data set of which a part was never written: HDF5 reads it as fill values. Local; no reading.

    A virtual data set is not judged: its sources are.

    Raises
    ------
    DataError
        With the number of missing chunks and the first missing row.
    """
    if item.is_virtual or item.external or not item.size:
        return
    if item.chunks is None:
        if not item.id.get_storage_size():
            raise DataError(f"{_called(item)} was created and never written: it has no bytes in the file")
        return
    expected, present = expected_chunks(item), item.id.get_num_chunks()
    if present < expected:
        row = _first_missing_row(item)
        raise DataError(
            f"{_called(item)} is incomplete: {expected - present} of its {expected} chunks were never "
            f"written, the first at row {row}; HDF5 would read them as fill values"
        )


def _first_missing_row(item: h5py.Dataset) -> int:
    numbers: list[int] = []
    each_chunk(item, lambda number, _: numbers.append(number))
    there = np.unique(np.asarray(numbers, np.int64))
    gaps = np.flatnonzero(there != np.arange(there.size))
    first = int(gaps[0]) if gaps.size else there.size
    return first // prod(chunk_grid(item)[1:]) * int(item.chunks[0])
