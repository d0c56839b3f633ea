"""HDF5's filters undone outside HDF5, which holds one lock for all threads while it undoes them.

Filters are found by their registered numbers. What is not known here, or whose library is not installed,
HDF5 reads by itself.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcml.io.read.stored import StoredArray

__all__ = ["Decoder", "can_decode", "make_decoder"]

Bytes: TypeAlias = "NDArray[np.uint8]"
Decoder = Callable[[Bytes, int, Bytes], None]
"""Takes a chunk as stored, the mask of filters that it went without, and the array to fill."""

_DEFLATE, _SHUFFLE, _LZF, _BLOSC, _ZSTD = 1, 2, 32000, 32001, 32015
_KNOWN = {
    (_DEFLATE,),
    (_LZF,),
    (_BLOSC,),
    (_ZSTD,),
    (_SHUFFLE, _DEFLATE),
    (_SHUFFLE, _LZF),
    (_SHUFFLE, _ZSTD),
}
_HEADER = 24


def can_decode(numbers: tuple[int, ...]) -> bool:
    """Tell whether filters can be undone here, given by HDF5's numbers in the order of writing. Local."""
    return not numbers or (numbers in _KNOWN and find_spec("imagecodecs") is not None)


def make_decoder(stored: StoredArray) -> Decoder | None:
    """Return what undoes the filters of chunks of `stored`, or None where only HDF5 can. Local."""
    numbers = stored.filter_numbers
    if not can_decode(numbers):
        return None
    if not numbers:
        return _copy
    return _masked(_expander(numbers[-1]), stored.dtype.itemsize if numbers[0] == _SHUFFLE else None)


def _copy(raw: Bytes, mask: int, out: Bytes) -> None:
    out[...] = raw


def _expander(number: int) -> Callable[[Bytes, Bytes], None]:
    """Return the library function that undoes a compression into an array."""
    import imagecodecs

    decode: dict[int, Callable[..., Any]] = {
        _DEFLATE: imagecodecs.deflate_decode,
        _LZF: imagecodecs.lzf_decode,
        _ZSTD: imagecodecs.zstd_decode,
        _BLOSC: imagecodecs.blosc_decode,
    }
    options = {"numthreads": 1} if number == _BLOSC else {}
    chosen = decode[number]

    def expand(raw: Bytes, out: Bytes) -> None:
        n_bytes = np.asarray(chosen(raw, out=out, **options)).size
        if n_bytes != out.size:
            raise ValueError(f"{n_bytes} bytes instead of {out.size}")

    return expand


def _masked(expand: Callable[[Bytes, Bytes], None], itemsize: int | None) -> Decoder:
    """Return the decoder of a compression after an optional shuffle; a bit of the mask skips its filter."""
    compression = 0 if itemsize is None else 1

    def decode(raw: Bytes, mask: int, out: Bytes) -> None:
        is_shuffled = itemsize is not None and itemsize > 1 and not mask & 1
        place = _shuffled_place(out.size) if is_shuffled else out
        if mask >> compression & 1:
            place[...] = raw
        else:
            expand(raw, place)
        if is_shuffled:
            assert itemsize is not None
            _unshuffle(itemsize, out)

    return decode


_held = threading.local()


def _shuffled_place(n_bytes: int) -> Bytes:
    """Return this thread's memory for shuffled bytes, behind room for a header."""
    frame: Bytes | None = getattr(_held, "frame", None)
    if frame is None or frame.size != _HEADER + n_bytes:
        frame = _held.frame = np.empty(_HEADER + n_bytes, np.uint8)
    return frame[_HEADER:]


def _unshuffle(itemsize: int, out: Bytes) -> None:
    """Fill `out` with the shuffled bytes, byte planes made elements again.

    Blosc has the only unshuffle at the speed of memory. Its frame: version, shuffled and not split, the
    sizes, where the one block begins, and that it is stored as it is.
    """
    import imagecodecs

    n = out.size
    whole = n // itemsize * itemsize
    frame = _held.frame
    header = struct.pack("<BBBBIIIII", 2, 1, 0x11, itemsize, whole, whole, _HEADER + whole, 20, whole)
    frame[:_HEADER] = np.frombuffer(header, np.uint8)
    imagecodecs.blosc_decode(frame[: _HEADER + whole], out=out[:whole].data, numthreads=1)
    out[whole:] = frame[_HEADER + whole :]
