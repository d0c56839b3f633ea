"""Where the rows of an HDF5 data set lie in its file, as plain data that one rank finds and all share."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["StoredArray", "chunk_grid", "each_chunk", "stored_array"]

_UNWRITTEN = (-1, 0, 0)


@dataclass(frozen=True)
class StoredArray:
    """An array of rows in a file.

    Parameters
    ----------
    name : str
        Of the data set.
    shape : tuple of int
    dtype : numpy dtype
        As stored, byte order included.
    offset : int or None
        Of its first byte, where it lies in one piece.
    chunk_shape : tuple of int or None
    chunks : (n_chunks, 3) array of int64, or None
        Offset, size and mask of filters of each chunk, in row-major order of the grid of chunks.
    filters : tuple of (int, tuple of int)
        HDF5's number and parameters of each filter, in the order of writing.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None = None
    chunk_shape: tuple[int, ...] | None = None
    chunks: NDArray[np.int64] | None = None
    filters: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @cached_property
    def row_bytes(self) -> int:
        """Stored bytes of one row, before filters."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk, 1 where there are none."""
        return self.chunk_shape[0] if self.chunk_shape else 1

    @property
    def is_flat(self) -> bool:
        """Whether its rows lie in the file as they are."""
        in_rows = self.chunk_shape is not None and self.chunk_shape[1:] == self.shape[1:]
        return self.offset is not None or (in_rows and not self.filters)

    @property
    def filter_numbers(self) -> tuple[int, ...]:
        """HDF5's number of each filter."""
        return tuple(number for number, _ in self.filters)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can say of it. Local."""
        chunks = None if self.chunks is None else base64.b64encode(self.chunks.tobytes()).decode()
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**shown, "dtype": self.dtype.str, "chunks": chunks}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> StoredArray:
        """Return what `to_json` said. Local."""
        chunks = tree["chunks"]
        if chunks is not None:
            chunks = np.frombuffer(base64.b64decode(chunks), np.int64).reshape(-1, 3)
        chunk_shape = tree["chunk_shape"]
        return cls(
            tree["name"],
            tuple(tree["shape"]),
            np.dtype(tree["dtype"]),
            tree["offset"],
            None if chunk_shape is None else tuple(chunk_shape),
            chunks,
            tuple((number, tuple(values)) for number, values in tree["filters"]),
        )


def stored_array(item: h5py.Dataset) -> StoredArray:
    """Return where a data set lies. Local; only metadata is read.

    A layout that has neither an offset nor chunks (compact, external, virtual) gives neither: HDF5 itself
    must read it. So it must numbers that NumPy only has wider, as bfloat16, or otherwise placed.
    """
    base = StoredArray(item.name[1:], tuple(map(int, item.shape)), item.dtype)
    if item.is_virtual or item.external or not _is_numpy_type(item):
        return base
    if item.chunks is None:
        offset = item.id.get_offset()
        return StoredArray(base.name, base.shape, base.dtype, None if offset is None else int(offset))
    chunk_shape = tuple(map(int, item.chunks))
    return StoredArray(
        base.name, base.shape, base.dtype, None, chunk_shape, _chunk_table(item), _filters(item)
    )


def _is_numpy_type(item: h5py.Dataset) -> bool:
    """Tell whether the stored bytes are those of the data set's dtype."""
    return bool(h5py.h5t.py_create(item.dtype, logical=True) == item.id.get_type())


def _chunk_table(item: h5py.Dataset) -> NDArray[np.int64]:
    table = np.tile(np.array(_UNWRITTEN, np.int64), (prod(chunk_grid(item)), 1))

    def note(number: int, chunk: Any) -> None:
        table[number] = chunk.byte_offset, chunk.size, chunk.filter_mask

    each_chunk(item, note)
    return table


def chunk_grid(item: h5py.Dataset) -> tuple[int, ...]:
    """Return how many chunks a data set of this shape has along each axis. Local."""
    return tuple(-(-n // c) for n, c in zip(item.shape, item.chunks, strict=True))


def each_chunk(item: h5py.Dataset, note: Callable[[int, Any], object]) -> None:
    """Call `note` with the number of each chunk that was written and what HDF5 knows of it. Local.

    Chunks are numbered in row-major order of their grid.
    """
    grid, lengths = chunk_grid(item), item.chunks

    def numbered(chunk: Any) -> None:
        number = 0
        for start, length, count in zip(chunk.chunk_offset, lengths, grid, strict=True):
            number = number * count + start // length
        note(number, chunk)

    if hasattr(item.id, "chunk_iter"):
        item.id.chunk_iter(numbered)
        return
    for i in range(item.id.get_num_chunks()):  # HDF5 1.10, which is slow at it
        numbered(item.id.get_chunk_info(i))


def _filters(item: h5py.Dataset) -> tuple[tuple[int, tuple[int, ...]], ...]:
    plist = item.id.get_create_plist()
    found = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return tuple((int(number), tuple(map(int, values))) for number, _, values, _ in found)
