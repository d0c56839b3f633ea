"""One open file: the bytes at an offset, or an error that names it; never zeros or another file's bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError

__all__ = ["FileIdentity", "Handle", "Traffic", "identity_of"]

_CALL_BYTES = 256 << 20
_RETRIES = 3
_PASSING = (errno.ESTALE, errno.EIO)


class FileIdentity(NamedTuple):
    """What tells that a file is still the one that was opened; devices are numbered differently by node."""

    inode: int
    size: int
    mtime_ns: int


def identity_of(status: os.stat_result) -> FileIdentity:
    """Return the identity of a file from its status. Local."""
    return FileIdentity(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass
class Traffic:
    """What reading has cost this process so far."""

    opens: int = 0
    bytes_read: int = 0
    retries: int = 0


class Handle:
    """A file that is read by offset. All Local.

    Parameters
    ----------
    path : Path
    identity : FileIdentity
        Of the file whose layout is known; another file at `path` is refused.
    traffic : Traffic
    descriptor : int, optional
        Already open; the handle owns it from now on. Without it the file is opened when it is first read.
    make_room : callable
        Called before the file is opened: it may close others.
    """

    def __init__(
        self,
        path: Path,
        identity: FileIdentity,
        traffic: Traffic,
        descriptor: int = -1,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.identity = identity
        self.traffic = traffic
        self._descriptor = descriptor
        self._make_room = make_room
        self._opening = Lock()

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._descriptor >= 0

    def _open(self) -> None:
        with self._opening:  # threads that decode chunks come here together
            if not self.is_open:
                self._descriptor = self._opened()

    def _opened(self) -> int:
        self._make_room()
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be opened ({error.strerror})") from None
        self.traffic.opens += 1
        if identity_of(os.fstat(descriptor)) != self.identity:
            os.close(descriptor)
            raise DataError(f"{self.path}: was replaced or changed since its layout was read")
        return descriptor

    def read_into(self, out: NDArray[Any], offset: int) -> None:
        """Fill `out`, an array in C order, with the bytes from `offset` on, at most 256 MiB a call.

        Raises
        ------
        DataError
            The file cannot be opened, is another one than was looked at, ends before, or cannot be read
            after three retries.
        """
        if self._descriptor < 0:
            self._open()
        # Nearly always one call does it; Python between two calls runs with cold caches, so there is little.
        done = self._retried(out, offset) if out.nbytes <= _CALL_BYTES else 0
        self.traffic.bytes_read += done
        if done < out.nbytes:
            self._read_rest(out.reshape(-1).view(np.uint8).data[done:], offset + done)

    def _read_rest(self, view: memoryview, offset: int) -> None:
        while len(view):
            n_read = self._retried(view[:_CALL_BYTES], offset)
            if n_read == 0:
                size = os.fstat(self._descriptor).st_size
                wanted = f"{len(view)} bytes at offset {offset} were to be read"
                raise DataError(f"{self.path}: is truncated: it ends at byte {size} and {wanted}")
            self.traffic.bytes_read += n_read
            view, offset = view[n_read:], offset + n_read

    def _retried(self, view: Any, offset: int) -> int:
        for attempt in range(_RETRIES + 1):
            try:
                return os.preadv(self._descriptor, [view], offset)
            except OSError as error:
                if error.errno not in _PASSING or attempt == _RETRIES:
                    what = f"cannot be read at offset {offset}"
                    raise DataError(f"{self.path}: {what} ({error.strerror})") from None
            self._reopen()
        raise AssertionError("the last attempt returns or raises")

    def _reopen(self) -> None:
        """Open the file again, as a network file system asks for; it must be the same one."""
        self.traffic.retries += 1
        descriptor = self._opened()
        if self.is_open:  # under its number: other threads may be reading by it
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
        else:
            self._descriptor = descriptor

    def check(self) -> None:
        """Raise a DataError if the file is no longer the one that was opened."""
        for where in (self.path, self._descriptor) if self.is_open else (self.path,):
            try:
                now = identity_of(os.stat(where))
            except OSError as error:
                raise DataError(f"{self.path}: vanished while it was read ({error.strerror})") from None
            if now.inode != self.identity.inode:
                raise DataError(f"{self.path}: was replaced while it was read")
            if now != self.identity:
                raise DataError(
                    f"{self.path}: changed while it was read: it had {self.identity.size} bytes, now "
                    f"{now.size}, and its time of change differs"
                )

    def close(self) -> None:
        """Close the file."""
        if self.is_open:
            os.close(self._descriptor)
        self._descriptor = -1
