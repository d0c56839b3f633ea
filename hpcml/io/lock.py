"""A lock that ends with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from hpcml.io.files import output_error

__all__ = ["HELD", "holder_of", "release", "try_lock"]

HELD = -1
"""Another process has the lock."""
_UNKNOWN = -2
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def try_lock(path: Path) -> int:
    """Return a handle for `release`, or HELD where another process has the lock. Local.

    The lock is the kernel's: what a dead process left does not block. Where the file system has no locks
    everybody gets one.

    Raises
    ------
    OutputError
        The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_named(handle, path):
            _sign(handle)
            return handle
    except OSError as error:
        return _without_lock(handle, path, error)
    os.close(handle)
    return HELD


def _sign(handle: int) -> None:
    """Write who has the lock; on a full disk it is held all the same."""
    with suppress(OSError):
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _without_lock(handle: int, path: Path, error: OSError) -> int:
    os.close(handle)
    if error.errno in _NO_LOCKS:
        with suppress(OSError):
            path.unlink()
        return _UNKNOWN
    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
        raise output_error(path, error) from error
    return HELD


def _is_named(handle: int, path: Path) -> bool:
    """Return whether the locked file still has the name: its last holder may have removed it."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(handle))


def release(handle: int, path: Path) -> None:
    """Give a lock back and remove its file. Local."""
    if handle >= 0:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def holder_of(path: Path) -> str:
    """Return who has the lock, as far as its file says. Local."""
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
