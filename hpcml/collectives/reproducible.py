"""A sum whose bits depend on its terms alone, not on their order, split or number of ranks.

Each term is cut to a window of 114 bits below a power of two, ``2^top``, common to all ranks and
chosen for each element, and added as three integer limbs of 38 bits. Integer addition has no rounding,
so any order gives the same limbs; 2^24 terms fit. The window comes from reduced numbers only: a
maximum over ranks the first time, then the window of the last sum of the same kind. The message says
by counts whether a term did not fit, and whether all terms of an element have become small; either
way the call measures and repeats.

The error is below 2^-80 of the largest term for up to 2^19 terms (2^-75 for 2^24): each loses at most
2^-115 of 2^top, and 2^top is at most 2^16 times the largest.

References
----------
Demmel and Nguyen, "Parallel Reproducible Summation", IEEE Trans. Computers 64 (2015),
doi:10.1109/TC.2014.2345391. Collange et al., "Numerical reproducibility for the parallel reduction on
multi- and many-core architectures", Parallel Computing 49 (2015), doi:10.1016/j.parco.2015.09.001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives.communicator import Array, Communicator
from hpcml.collectives.limbs import LIMB, add, rounded
from hpcml.errors import CollectiveError, shared

__all__ = ["Reduced", "reduce_partials", "reproducible_sum"]

_HEADROOM = 8
_LOOSE = 16
_LOWEST = -960
"""The lowest window: its last bit is below the smallest subnormal, 2^-1074."""
_KEEP_BYTES = 1 << 25

Partials = Callable[[], Iterable[NDArray[np.float64]]]


class Reduced(NamedTuple):
    """What `reduce_partials` returns, the same on every rank."""

    total: NDArray[np.float64]
    window: NDArray[np.int64]
    counts: tuple[int, ...]


class _Local(NamedTuple):
    """One rank's integer sums, (3, n), and what its terms said of the window."""

    limbs: NDArray[np.int64]
    occupied: NDArray[np.bool_]
    missed: int
    nonfinite: int


def _measured(comm: Communicator, partials: Partials, n: int) -> NDArray[np.int64]:
    """Return the window over the terms of all ranks, (n,). Collective, one message."""
    largest = np.zeros(n)
    for chunk in partials():
        size = np.abs(chunk)
        peak = size.max(axis=0, initial=0.0)
        if not np.isfinite(peak).all():
            peak = np.where(np.isfinite(size), size, 0.0).max(axis=0)
        largest = np.maximum(largest, peak)
    exponents = np.where(largest > 0, np.frexp(largest)[1], _LOWEST - _HEADROOM).astype(np.int64)
    (top,) = comm.allreduce(exponents, op="max")
    # 2^1024 is above every double, so a window needs no headroom there.
    return np.asarray(np.clip(top + _HEADROOM, _LOWEST, 1024), np.int64)


def _added(partials: Partials, window: NDArray[np.int64]) -> _Local:
    """Add this rank's terms within `window`."""
    scale = np.ldexp(1.0, LIMB - window)
    limbs, largest = np.zeros((3, window.size), np.int64), np.zeros(window.size)
    missed = nonfinite = 0
    for chunk in partials():
        found = add(chunk, scale, limbs, largest)
        missed, nonfinite = missed + found.missed, nonfinite + found.nonfinite
    return _Local(limbs, largest >= 2.0 ** (LIMB - _LOOSE), missed, nonfinite)


def _paired(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pack two counters of 32 bits into each integer, so that one sum counts both."""
    even = np.zeros(flags.size + flags.size % 2, np.uint32)
    even[: flags.size] = flags
    return even.view(np.int64)


def _unpaired(counts: NDArray[np.int64], n: int) -> NDArray[np.uint32]:
    return counts.view(np.uint32)[:n]


def _with_nonfinite(
    comm: Communicator, partials: Partials, total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `total` with the Inf or NaN that a plain sum would have. Collective, one message."""
    kinds = np.zeros((3, total.size), np.int64)
    for chunk in partials():
        kinds += np.stack([(k).sum(axis=0) for k in (chunk == np.inf, chunk == -np.inf, np.isnan(chunk))])
    (kinds,) = comm.allreduce(kinds)
    plus, minus, nan = kinds > 0
    total = np.where(plus, np.inf, np.where(minus, -np.inf, total))
    return np.where(nan | (plus & minus), np.nan, total)


def _kept(partials: Partials) -> Partials:
    """Return `partials` that computes its terms once, where they are few enough to keep."""
    kept: list[NDArray[np.float64]] = []
    n_bytes = 0
    for chunk in partials():
        kept.append(chunk)
        n_bytes += chunk.nbytes
        if n_bytes > _KEEP_BYTES:
            return partials
    return lambda: kept


def reduce_partials(
    comm: Communicator,
    partials: Partials,
    n: int,
    window: NDArray[np.int64] | None = None,
    counts: Sequence[int] = (),
) -> Reduced:
    """Sum terms over all ranks, with integer counts in the same message.

    Collective, one message; two without a `window`; two more when the terms miss the window, one more
    when a term is Inf or NaN.

    Parameters
    ----------
    comm : Communicator
    partials : callable
        Gives this rank's terms as arrays of shape (any, n); called again when the sum repeats.
    n : int
        Elements of the sum.
    window : (n,) array of int64, optional
        The window that the last sum of this kind returned.
    counts : sequence of int
        Added over ranks.

    Returns
    -------
    Reduced
        total (n,), the window for the next sum, and the summed counts.
    """
    if window is None:
        partials = _kept(partials)
        window = _measured(comm, partials, n)
    local = _added(partials, window)
    flags = np.array([local.missed, local.nonfinite, *counts], np.int64)
    limbs, occupied, flags = comm.allreduce(local.limbs, _paired(local.occupied), flags)
    loose = (_unpaired(occupied, n) == 0) & (window > _LOWEST)
    if flags[0] or loose.any():
        return reduce_partials(comm, partials, n, None, counts)
    total = rounded(limbs, window)
    if flags[1]:
        total = _with_nonfinite(comm, partials, total)
    return Reduced(total, window, tuple(flags[2:].tolist()))


def reproducible_sum(comm: Communicator, partials: Array) -> NDArray[np.float64]:
    """Sum the rows of every rank's `partials`, to the same bits for any split over ranks.

    Collective, three messages. ``total[j] = sum over ranks and rows of partials[i, j]``, with an error
    below 2^-80 of the largest term before the one rounding to float64; Inf and NaN come out as in a
    plain sum.

    Parameters
    ----------
    comm : Communicator
    partials : (my shards, n) array of float64
        This rank's terms; a rank without any gives shape (0, n).

    Returns
    -------
    (n,) array of float64
        The same on every rank.

    Raises
    ------
    ValueError
        Partials that are no matrix.
    CollectiveError
        Ranks gave different numbers of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcml.collectives import reproducible_sum, world
    >>> reproducible_sum(world(), np.array([[1e16], [1.0], [-1e16]]))
    array([1.])
    """
    terms = np.asarray(partials, np.float64)
    if terms.ndim != 2:
        raise ValueError(f"partials must have shape (my shards, n), not {terms.shape}")
    n = terms.shape[1]
    (ends,) = comm.allreduce(np.array([n, -n]), op="max")
    if ends[0] != -ends[1]:
        raise shared(CollectiveError(f"ranks gave partials of {-ends[1]} to {ends[0]} columns"))
    return reduce_partials(comm, lambda: [terms], n).total
