"""Several arrays in one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hpcml.collectives.communicator import Array

__all__ = ["MESSAGE_BYTES", "pack", "pieces", "unpack"]

MESSAGE_BYTES = 1 << 28
"""The longest single message: MPI counts and some transports fail near 2 GiB."""

_DTYPES = (np.dtype(np.int64), np.dtype(np.float64))


def pack(arrays: Sequence[Array]) -> Array:
    """Return the elements of `arrays` one after another in a new buffer. Local.

    Raises
    ------
    TypeError
        The arrays differ in dtype, or it is neither int64 nor float64.
    """
    dtypes = {np.asarray(array).dtype for array in arrays}
    if len(dtypes) != 1 or not dtypes.issubset(_DTYPES):
        names = sorted(str(dtype) for dtype in dtypes)
        raise TypeError(f"a reduction takes int64 or float64 arrays of one dtype, not {', '.join(names)}")
    return np.concatenate([np.asarray(array).ravel() for array in arrays])


def unpack(buffer: Array, like: Sequence[Array]) -> list[Array]:
    """Return views of `buffer` with the shapes of `like`. Local."""
    ends = np.cumsum([np.size(array) for array in like])
    parts = np.split(buffer, ends[:-1])
    return [part.reshape(np.shape(array)) for part, array in zip(parts, like, strict=True)]


def pieces(buffer: Array, limit: int | None = None) -> Iterator[Array]:
    """Yield consecutive views of at most `limit` bytes each. Local."""
    step = max(1, (limit or MESSAGE_BYTES) // buffer.itemsize)
    for start in range(0, buffer.size, step):
        yield buffer[start : start + step]
