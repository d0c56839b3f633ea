"""Rows of one stored array, read past HDF5 where its layout allows, through HDF5 where not."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError
from hpcml.io.read.decode import Decoder
from hpcml.io.read.decoders import Decoders
from hpcml.io.read.handle import Handle, Traffic
from hpcml.io.read.rows import Buffers
from hpcml.io.read.stored import StoredArray

__all__ = ["ArrayReader", "ChunkReader", "FlatReader", "LibraryReader", "read_as", "read_rows"]

_CALL_BYTES = 256 << 20
_PIECE_BYTES = 1 << 20


class ArrayReader(Protocol):
    """Gives rows of an array as they are stored."""

    @property
    def stored(self) -> StoredArray:
        """What is read."""

    def into(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out`, in C order and of the stored dtype, with rows ``start:stop``. Local."""


class FlatReader:
    """Rows that lie in a file as they are: in one piece, or in chunks of whole rows without filters.

    Chunks that are neighbours in the file are read in one call.

    Parameters
    ----------
    stored : StoredArray
    handle : Handle
    """

    def __init__(self, stored: StoredArray, handle: Handle) -> None:
        self.stored = stored
        self._handle = handle
        rows, offsets = _runs(stored)
        self._rows: list[int] = rows.tolist()
        self._offsets: list[int] = offsets.tolist()

    def into(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """See ArrayReader."""
        first, row_bytes = start, self.stored.row_bytes
        run = bisect_right(self._rows, start) - 1
        while first < stop:
            last = min(self._rows[run + 1], stop)
            offset = self._offsets[run]
            if offset < 0:
                raise _unwritten(self._handle, self.stored, first, last)
            offset += (first - self._rows[run]) * row_bytes
            is_whole = last - first == stop - start
            self._handle.read_into(out if is_whole else out[first - start : last - start], offset)
            first, run = last, run + 1


def _runs(stored: StoredArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each run that lies in one piece, the number of rows last, and the offsets."""
    n = stored.shape[0]
    if stored.chunks is None:
        return np.array([0, n]), np.array([stored.offset])
    offsets = stored.chunks[:, 0]
    begins = np.ones(offsets.size, bool)
    begins[1:] = np.diff(offsets) != stored.chunk_rows * stored.row_bytes
    return np.append(np.flatnonzero(begins) * stored.chunk_rows, n), offsets[begins]


def _unwritten(handle: Handle, stored: StoredArray, start: int, stop: int) -> DataError:
    return DataError(f"{handle.path}: rows {start} to {stop} of {stored.name} were never written")


@dataclass(frozen=True)
class LibraryReader:
    """Rows that HDF5 alone can read."""

    stored: StoredArray
    item: h5py.Dataset
    traffic: Traffic

    def into(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """See ArrayReader."""
        row_bytes = max(1, self.stored.row_bytes)
        step = max(1, _CALL_BYTES // row_bytes)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            read_rows(self.item, first, last, out[first - start : last - start])
        self.traffic.bytes_read += (stop - start) * row_bytes


def read_rows(item: h5py.Dataset, start: int, stop: int, out: NDArray[Any]) -> None:
    """Fill `out` with rows ``start:stop`` of a data set. Local.

    Raises
    ------
    DataError
        HDF5 cannot read them; it names the rows of the first chunk that is damaged.
    """
    try:
        item.read_direct(out, np.s_[start:stop])
    except (OSError, RuntimeError) as error:
        first, last = _damaged(item, start, stop)
        where = f"{item.file.filename}: rows {first} to {last} of {item.name[1:]!r}"
        raise DataError(f"{where} cannot be read ({error})") from None


def _damaged(item: h5py.Dataset, start: int, stop: int) -> tuple[int, int]:
    """Return the rows of the first chunk that cannot be read, or all of them where each alone can."""
    step = item.chunks[0] if item.chunks else max(stop - start, 1)
    for first in range(start // step * step, stop, step):
        rows = (first, min(first + step, item.shape[0])) if item.chunks else (start, stop)
        try:
            item[slice(*rows)]
        except (OSError, RuntimeError):
            return rows
    return start, stop


class _Chunk:
    """A chunk of the grid: its number and the part of the array that it holds."""

    def __init__(self, number: int, corner: tuple[int, ...], stored: StoredArray) -> None:
        assert stored.chunk_shape is not None
        self.number = number
        self.start = corner[0]
        self.stop = min(corner[0] + stored.chunk_shape[0], stored.shape[0])
        self.columns = tuple(
            slice(a, min(a + length, n))
            for a, length, n in zip(corner[1:], stored.chunk_shape[1:], stored.shape[1:], strict=True)
        )
        self.is_whole = self.stop - self.start == stored.chunk_shape[0] and all(
            part == slice(0, length) and length == n
            for part, length, n in zip(self.columns, stored.chunk_shape[1:], stored.shape[1:], strict=True)
        )


class ChunkReader:
    """Rows that lie in chunks. Each chunk is read and decoded once, those that a read cuts are kept.

    Parameters
    ----------
    stored : StoredArray
    handle : Handle
    decode : Decoder
    cache_bytes : int
        Most bytes of decoded chunks that are kept for the next read.
    decoders : Decoders, optional
        Decodes chunks on other cores.
    """

    def __init__(
        self,
        stored: StoredArray,
        handle: Handle,
        decode: Decoder,
        cache_bytes: int,
        decoders: Decoders | None = None,
    ) -> None:
        assert stored.chunk_shape is not None and stored.chunks is not None
        self.stored = stored
        self.handle = handle
        self._decode = decode
        self._cache_bytes = cache_bytes
        self._decoders = decoders
        self._shape = stored.chunk_shape
        self._n_bytes = prod(self._shape) * stored.dtype.itemsize
        self._table = stored.chunks
        self._cut: dict[int, NDArray[Any]] = {}

    def into(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """See ArrayReader."""
        tasks = [partial(self._place, chunk, start, stop, out) for chunk in self._chunks(start, stop)]
        if self._decoders is None or len(tasks) == 1:
            for task in tasks:
                task()
        else:
            self._decoders.run(tasks)
        self._cut = {number: held for number, held in self._cut.items() if self._last_row(number) > stop}

    def _chunks(self, start: int, stop: int) -> Iterator[_Chunk]:
        """Yield the chunks of rows ``start:stop``."""
        grid = [-(-n // c) for n, c in zip(self.stored.shape, self._shape, strict=True)]
        across = list(product(*(range(n) for n in grid[1:])))
        for band in range(start // self._shape[0], -(-stop // self._shape[0])):
            for place, inner in enumerate(across):
                corner = tuple(i * c for i, c in zip((band, *inner), self._shape, strict=True))
                yield _Chunk(band * len(across) + place, corner, self.stored)

    def _last_row(self, number: int) -> int:
        bands = prod(-(-n // c) for n, c in zip(self.stored.shape[1:], self._shape[1:], strict=True))
        return min((number // bands + 1) * self._shape[0], self.stored.shape[0])

    def _where(self, chunk: _Chunk) -> tuple[int, int, int]:
        offset, size, mask = map(int, self._table[chunk.number])
        if offset < 0:
            raise _unwritten(self.handle, self.stored, chunk.start, chunk.stop)
        return offset, size, mask

    def _place(self, chunk: _Chunk, start: int, stop: int, out: NDArray[Any]) -> None:
        """Bring the wanted rows of a chunk to their place in `out`."""
        first, last = max(chunk.start, start), min(chunk.stop, stop)
        target = out[(slice(first - start, last - start), *chunk.columns)]
        if chunk.is_whole and (first, last) == (chunk.start, chunk.stop) and target.flags.c_contiguous:
            self._decoded(chunk, target.reshape(-1).view(np.uint8))
            return
        held = self._cut.get(chunk.number)
        if held is None:
            held = np.empty(self._shape, self.stored.dtype)
            self._decoded(chunk, held.reshape(-1).view(np.uint8))
            if chunk.stop > stop and self._n_bytes * (len(self._cut) + 1) <= self._cache_bytes:
                self._cut[chunk.number] = held
        inside = tuple(slice(0, part.stop - part.start) for part in chunk.columns)
        target[...] = held[(slice(first - chunk.start, last - chunk.start), *inside)]

    def _decoded(self, chunk: _Chunk, out: NDArray[np.uint8]) -> None:
        offset, size, mask = self._where(chunk)
        raw = _thread_memory(size)
        self.handle.read_into(raw, offset)
        try:
            self._decode(raw, mask, out)
        except Exception as error:  # a codec's errors have no common class
            raise DataError(
                f"{self.handle.path}: rows {chunk.start} to {chunk.stop} of {self.stored.name}, at offset "
                f"{offset}, cannot be decoded ({error})"
            ) from None


_held = threading.local()


def _thread_memory(n_bytes: int) -> NDArray[np.uint8]:
    """Return memory of this thread that is used again: new memory would be cleared page by page each time."""
    raw: NDArray[np.uint8] | None = getattr(_held, "raw", None)
    if raw is None or raw.size < n_bytes:
        raw = _held.raw = np.empty(n_bytes, np.uint8)
    return raw[:n_bytes]


def read_as(reader: ArrayReader, start: int, stop: int, out: NDArray[Any], buffers: Buffers) -> None:
    """Fill `out` with rows ``start:stop`` in the dtype of `out`. Local.

    Another dtype is made in pieces that stay in the processor's cache, which is faster than HDF5 at it.
    """
    stored = reader.stored
    if stored.dtype == out.dtype:
        reader.into(start, stop, out)
        return
    for first, last in _pieces(stored, start, stop):
        piece = buffers.array("as stored", (last - first, *stored.shape[1:]), stored.dtype)
        reader.into(first, last, piece)
        out[first - start : last - start] = piece


def _pieces(stored: StoredArray, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield runs of about 1 MiB, of whole chunks where there are any."""
    unit = stored.chunk_rows
    step = max(1, _PIECE_BYTES // max(1, stored.row_bytes * unit)) * unit
    first = start
    while first < stop:
        last = min((first // unit * unit) + step, stop)
        yield first, last
        first = last
