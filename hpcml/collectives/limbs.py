"""Terms cut to a window, added as integers and rounded: by compiled code, or by NumPy to the same bits."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMB", "Found", "add", "compiled", "plain_add", "plain_rounded", "rounded"]

LIMB = 38
"""Bits of a limb."""


class Found(NamedTuple):
    """What terms said of the window: whether a finite one did not fit, and whether one was Inf or NaN."""

    missed: int
    nonfinite: int


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
    module = compiled()
    function = module.add if module else plain_add
    return Found(*function(np.ascontiguousarray(chunk, np.float64), scale, limbs, largest))


def rounded(limbs: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the doubles next to the sums that limbs within a window hold, (n,). Local.

    Parameters
    ----------
    limbs : (3, n) array of int64
    window : (n,) array of int64
        Exponents: `limbs` are those of terms times ``2^(38 - window)``.
    """
    module = compiled()
    if module is None:
        return plain_rounded(limbs, window)
    total = np.empty(window.size)
    module.rounded(limbs, window, total)
    return total


@lru_cache(1)
def compiled() -> Any:
    """Return the extension module, or None where it was not built. Local."""
    try:
        from hpcml.collectives import _limbs
    except ImportError:
        return None
    return _limbs


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


def plain_rounded(limbs: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what `rounded` does, with NumPy. Local."""
    # Of magnitudes no part cancels another: -1 + (1 - 2^-76) would lose what a double cannot hold.
    sign = np.where(_carried(limbs)[0] < 0, -1, 1)
    high, middle, low = _carried(limbs * sign)
    # Two halves of the high limb, each exact as a double, added without loss (Dekker's fast two-sum).
    upper = (high >> 31 << 31).astype(np.float64)
    lower = (high & ((1 << 31) - 1)).astype(np.float64)
    first = upper + lower
    rest = lower - (first - upper)
    rest = rest + (middle * 2.0**-LIMB + low * 2.0 ** (-2 * LIMB))
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(sign * (first + rest), window - LIMB), np.float64)


def _carried(limbs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the same numbers with 0 <= low, middle < 2^38; high alone has the sign."""
    high, middle, low = limbs
    middle = middle + (low >> LIMB)
    high = high + (middle >> LIMB)
    return high, middle & ((1 << LIMB) - 1), low & ((1 << LIMB) - 1)
