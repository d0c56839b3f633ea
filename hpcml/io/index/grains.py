"""Digests of stored rows, a grain at a time, as they are read: in whatever runs of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.data import Source, make_partition
from hpcml.io.read.array_reader import ArrayReader
from hpcml.io.read.stored import StoredArray

__all__ = ["Grid", "HashedReader", "grain_rows_of"]

_PIECE_BYTES = 2 << 20  # rows are hashed while they are in the processor's cache
_CODED_BYTES = 16 << 20  # chunks in it are decoded at once, on several cores


def grain_rows_of(n_rows: int, row_bytes: float, chunk_rows: int = 1) -> int:
    """Return the rows of a grain: every default shard is a whole number of grains. Local.

    Parameters
    ----------
    n_rows : int
    row_bytes : float
        Of a row in float64.
    chunk_rows : int
    """
    block = make_partition(Source(n_rows, 1, row_bytes), 1).block_rows
    return block if block % chunk_rows == 0 else chunk_rows


class Grid:
    """Where the grains of an array lie: every so many rows, or between given borders. All Local.

    Parameters
    ----------
    n_rows : int
        Of the array.
    grain_rows : int
    borders : (n_grains + 1,) array of int64, optional
    """

    def __init__(self, n_rows: int, grain_rows: int, borders: NDArray[np.int64] | None = None) -> None:
        self._n_rows = n_rows
        self._grain_rows = grain_rows
        self._borders = borders

    def unit(self, chunk_rows: int) -> int:
        """Return of how many rows reads are multiples: whole chunks, and whole grains if that fits."""
        fits = self._borders is None and self._grain_rows % chunk_rows == 0
        return self._grain_rows if fits else chunk_rows

    def number(self, row: int) -> int:
        """Return the grain of a row; among entries, never an empty one."""
        if self._borders is None:
            return row // self._grain_rows
        return int(np.searchsorted(self._borders, row, side="right")) - 1

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the first row of a grain and the row after its last."""
        if self._borders is None:
            first = number * self._grain_rows
            return first, min(first + self._grain_rows, self._n_rows)
        return int(self._borders[number]), int(self._borders[number + 1])


class _Cut(NamedTuple):
    """A grain of which the rows up to `row` were hashed."""

    row: int
    hasher: Any


class HashedReader:
    """An ArrayReader that hashes what it reads.

    A read may cut a grain; the next one, if it follows on, completes it. What a read begins with that cut and
    nothing was read before it, is read here first. So of ranks that share the rows, the one that has the last
    row of a grain has all of its digest.

    Parameters
    ----------
    inner : ArrayReader
    grid : Grid
    take : callable
        Gets the number and the digest of each grain that is complete; may raise.
    is_known : callable
        Whether a grain's head need not be read for its digest.
    """

    def __init__(
        self,
        inner: ArrayReader,
        grid: Grid,
        take: Callable[[int, bytes], None],
        is_known: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.stored: StoredArray = inner.stored
        self._inner = inner
        self._grid = grid
        self._take = take
        self._is_known = is_known
        self._cut: _Cut | None = None
        self._digest, self._hasher = _functions()

    def into(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """See ArrayReader."""
        if start == stop:
            return
        self._catch_up(start)
        for first, last in self._pieces(start, stop):
            piece = out[first - start : last - start]
            self._inner.into(first, last, piece)
            self._hash(first, piece)

    def _catch_up(self, start: int) -> None:
        """Hash the rows of the grain of `start` that come before it, unless they were read just now."""
        # Reads of indptr overlap by one number: the last border of the one is the first of the next.
        if self._cut is not None and self._cut.row - start in (0, 1):
            return
        self._cut = None
        number = self._grid.number(start)
        head, _ = self._grid.bounds(number)
        if head == start or self._is_known(number):
            return
        for first, last in self._pieces(head, start):
            piece = np.empty((last - first, *self.stored.shape[1:]), self.stored.dtype)
            self._inner.into(first, last, piece)
            self._hash(first, piece)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield runs of whole chunks, that stay in the processor's cache where there is nothing to decode."""
        unit, row_bytes = self._grid.unit(self.stored.chunk_rows), max(1, self.stored.row_bytes)
        wanted = _CODED_BYTES if self.stored.filters else _PIECE_BYTES
        step = max(1, wanted // (row_bytes * unit)) * unit
        first = start
        while first < stop:
            last = min(first // step * step + step, stop)
            yield first, last
            first = last

    def _hash(self, start: int, rows: NDArray[Any]) -> None:
        stop = start + len(rows)
        at = start if self._cut is None else self._cut.row
        while at < stop:
            number = self._grid.number(at)
            first, last = self._grid.bounds(number)
            end = min(last, stop)
            self._add(number, (first, last), at, rows[at - start : end - start])
            at = end

    def _add(self, number: int, bounds: tuple[int, int], at: int, rows: NDArray[Any]) -> None:
        first, last = bounds
        end = at + len(rows)
        if (at, end) == bounds:
            self._cut = None
            self._take(number, self._digest(rows))
            return
        if at == first:
            self._cut = _Cut(at, self._hasher())
        if self._cut is None:
            return
        self._cut.hasher.update(rows)
        if end < last:
            self._cut = self._cut._replace(row=end)
            return
        digest = self._cut.hasher.digest()
        self._cut = None
        self._take(number, digest)


def _functions() -> tuple[Callable[[Any], bytes], Callable[[], Any]]:
    from xxhash import xxh3_128, xxh3_128_digest

    return xxh3_128_digest, xxh3_128
