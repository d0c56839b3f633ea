"""Rows that HDF5 reads by itself, and which of them it cannot."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError

__all__ = ["read_rows"]

_ERRORS = (OSError, RuntimeError)


def read_rows(item: h5py.Dataset, start: int, stop: int, out: NDArray[Any]) -> None:
    """Fill `out` with rows ``start:stop`` of a data set. Local.

    Raises
    ------
    DataError
        HDF5 cannot read them; it names the rows of the first chunk that is damaged.
    """
    try:
        item.read_direct(out, np.s_[start:stop])
    except _ERRORS as error:
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
        except _ERRORS:
            return rows
    return start, stop
