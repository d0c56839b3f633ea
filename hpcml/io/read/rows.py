"""What a data set needs of the place where its rows are stored."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcml.data import Matrix, Source

__all__ = ["UNIT_BYTES", "WIDE_UNIT_BYTES", "Buffers", "RowReader", "Rows"]

UNIT_BYTES = 4 << 20
"""A read unit that still lies in the processor's cache when it is computed with."""
WIDE_UNIT_BYTES = 12 << 20
"""A read unit where what is done for each of them costs more than the cache gives."""


class Rows(NamedTuple):
    """Consecutive source rows: X an array or csr_array, the other columns (rows,) float64 or None."""

    X: Matrix
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None = None


class Buffers:
    """Memory that is used again for each read unit. All Local."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}
        self._last: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array over the memory called `name`, which grows to the largest ever asked for."""
        last = self._last.get(name)
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        n_bytes = prod(shape) * dtype.itemsize
        held = self._held.get(name)
        if held is None or held.size < n_bytes:
            held = self._held[name] = np.empty(n_bytes, np.uint8)
        self._last[name] = held[:n_bytes].view(dtype).reshape(shape)
        return self._last[name]


class RowReader(Protocol):
    """X, y, weight and offset of source rows, wherever they lie. All Local."""

    @property
    def n_samples(self) -> int:
        """Rows stored."""

    @property
    def n_features(self) -> int:
        """Columns of X."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of X in memory."""

    @property
    def is_sparse(self) -> bool:
        """Whether X comes in CSR form."""

    @property
    def source(self) -> Source:
        """What decides the partition."""

    @property
    def unit_bytes(self) -> int:
        """Bytes of X that are best asked for at a time."""

    def read(self, start: int, stop: int, buffers: Buffers | None = None) -> Rows:
        """Return rows ``start:stop``, in `buffers` where given: their next use overwrites them."""

    def check(self) -> None:
        """Raise a DataError if what was read is no longer what was opened."""

    def close(self) -> None:
        """Let go of files; arrays that were returned stay."""
