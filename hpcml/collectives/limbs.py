"""Terms cut to a window and added as integers: by compiled code, or by NumPy to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMB", "Found", "add", "compiled_add", "plain_add"]

LIMB = 38
"""Bits of a limb."""


class Found(NamedTuple):
    """What terms said of the window: whether a finite one did not fit, and whether one was Inf or NaN."""

    missed: int
    nonfinite: int


Adder = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]], tuple[int, int]
]


def add(
    chunk: NDArray[np.float64],
    scale: NDArray[np.float64],
    limbs: NDArray[np.int64],
    largest: NDArray[np.float64],
) -> Found:
    """Add the rows of `chunk` to `limbs`, and their sizes to `largest`. Local.

    With ``x = chunk * scale``, ``limbs[0] += rint(x)``; 38 bits further down what that left goes to
    ``limbs[1]``, and then to ``limbs[2]``. Terms with ``|x| >= 2^38``, Inf and NaN are left out.

    Parameters
    ----------
    chunk : (rows, n) array
    scale : (n,) array
        Powers of two.
    limbs : (3, n) array of int64
        Changed in place.
    largest : (n,) array
        The largest ``|x|`` so far, changed in place.
    """
    function = compiled_add() or plain_add
    return Found(*function(np.ascontiguousarray(chunk, np.float64), scale, limbs, largest))


@lru_cache(1)
def compiled_add() -> Adder | None:
    """Return the compiled function, or None where it was not built. Local."""
    try:
        from hpcml.collectives import _limbs
    except ImportError:
        return None
    return _limbs.add  # type: ignore[no-any-return]


def plain_add(
    chunk: NDArray[np.float64],
    scale: NDArray[np.float64],
    limbs: NDArray[np.int64],
    largest: NDArray[np.float64],
) -> tuple[int, int]:
    """Return what `add` finds, with NumPy. Local."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows here has missed the window
        scaled = chunk * scale
    fits = np.abs(scaled) < 2.0**LIMB
    missed = nonfinite = 0
    if not fits.all():
        missed = int((np.isfinite(chunk) & ~fits).any())
        nonfinite = int((~np.isfinite(chunk)).any())
        scaled = np.where(fits, scaled, 0.0)
    np.maximum(largest, np.abs(scaled).max(axis=0, initial=0.0), out=largest)
    for limb in limbs:
        whole = np.rint(scaled)
        limb += whole.astype(np.int64).sum(axis=0)
        scaled = (scaled - whole) * 2.0**LIMB
    return missed, nonfinite
