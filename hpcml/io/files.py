"""Files that are complete or absent."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcml.errors import DataError, OutputError

__all__ = [
    "digest_of",
    "file_digest",
    "index_path",
    "output_error",
    "read_bytes",
    "replacing",
    "sync",
    "write_bytes",
    "writing",
]

_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the limit allows",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EEXIST: "a part of the path is not a directory",
    errno.EISDIR: "it is a directory",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the one sentence for a write that failed. Local."""
    return OutputError(f"cannot write {path}: {_REASONS.get(error.errno or 0, error.strerror or str(error))}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system into an OutputError that names the file. Local."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def sync(path: Path) -> None:
    """Make durable what this machine wrote to a file, or the renames in a directory. Local."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write aside; afterwards it stands at `path`, synced. Local.

    The new file is removed when the work fails.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            aside.unlink()


def index_path(path: Path) -> Path:
    """Return where the index of a data file stands. Local."""
    return path.with_name(f"{path.name}.index")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file: aside, fsync, rename, fsync of the directory. Local.

    Raises
    ------
    OutputError
        For want of space, quota or permission; an older file at `path` is untouched.
    """
    with replacing(path) as aside:
        aside.write_bytes(content)


def read_bytes(path: Path) -> bytes:
    """Return a whole file. Local.

    Raises
    ------
    DataError
        It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of `content`, in hexadecimal digits. Local."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits. Local."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
