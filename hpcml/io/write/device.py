"""A file that HDF5 writes through this process: a full disk is an error at the end, never a crash."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["PAGE", "Device", "opened", "reserve", "write_all"]

PAGE = 4096
_CALL_BYTES = 256 << 20


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Give the handle of an open file. Local."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def write_all(handle: int, content: Any, offset: int) -> None:
    """Write all bytes of a buffer in C order at an offset. Local."""
    view = memoryview(content).cast("B")
    while view:
        done = os.pwrite(handle, view[:_CALL_BYTES], offset)
        view, offset = view[done:], offset + done


def reserve(handle: int, n_bytes: int) -> None:
    """Take room on the disk where the file system can, so that want of it is noticed now. Local."""
    try:
        if n_bytes:
            os.posix_fallocate(handle, 0, n_bytes)
    except OverflowError:
        raise OSError(errno.EFBIG, "more bytes than a file can have") from None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


class Device(io.RawIOBase):
    """A file as HDF5 sees it: writes never fail, the first error is kept.

    HDF5 crashes the process when the device is full as it closes a file; so it learns nothing of it, and
    `close_file` raises the error when HDF5 is done.

    Parameters
    ----------
    handle : int
        Of a new file open to read and write; bytes that are reserved in it are unknown to HDF5.
    """

    def __init__(self, handle: int) -> None:
        self.error: OSError | None = None
        self._handle = handle
        self._at = 0
        self._size = 0
        self._placeholder = np.zeros(0, np.uint8)

    def open_file(self, *, aligned: bool) -> Any:
        """Return an h5py.File over the device; data sets begin at whole pages if `aligned`."""
        # Default libver: files must open with HDF5 1.10. Aligned data sets suit memory maps.
        step = PAGE if aligned else 1
        return h5py.File(
            self, "w", alignment_threshold=step, alignment_interval=step, rdcc_nbytes=0, track_order=False
        )

    def close_file(self, file: Any) -> None:
        """Close HDF5's view of the file and raise what went wrong on the way."""
        file.close()
        if self.error is not None:
            raise self.error

    def place_chunk(self, dataset: Any, where: tuple[int, ...], n_bytes: int, mask: int) -> int:
        """Make room for a stored chunk and return its offset; its bytes are for others to write.

        HDF5 is given a placeholder to write, and what it writes of that is dropped.
        """
        if self._placeholder.size < n_bytes:
            self._placeholder = np.zeros(n_bytes, np.uint8)
        dataset.id.write_direct_chunk(where, self._placeholder[:n_bytes].data, mask)
        return int(dataset.id.get_chunk_info_by_coord(where).byte_offset)

    def _is_placeholder(self, content: Any) -> bool:
        return bool(np.frombuffer(content, np.uint8).ctypes.data == self._placeholder.ctypes.data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset."""
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from the file."""
        text = os.pread(self._handle, len(buffer), self._at)
        buffer[: len(text)] = text
        self._at += len(text)
        return len(text)

    def write(self, content: Any) -> int:
        """Write to the file, or note why not."""
        if not self._is_placeholder(content):
            self._try(lambda: write_all(self._handle, content, self._at))
        self._at += len(content)
        self._size = max(self._size, self._at)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Give the file its size, or note why not."""
        size = self._size = self._at if size is None else size
        self._try(lambda: os.ftruncate(self._handle, size))
        return size

    def _try(self, work: Any) -> None:
        try:
            work()
        except OSError as error:
            self.error = self.error or error
