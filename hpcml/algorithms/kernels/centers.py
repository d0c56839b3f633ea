"""Centres as the compiled k-means pass takes them: panels of floats that never say more than is so.

With ``x`` and ``c`` less a common middle, times a common power of two, ``(|x - c|^2 - |x|^2) / 2`` is
``c^2 / 2 - x c``. A panel gives it in single precision less what rounding may add: for a chain of n products
that is at most ``e (|x| |c| + c^2 / 2)`` with ``e = 1.1 (n + 10) 2^-24``, so two columns more, ``|c|`` and
``c^2 / 2``, meet ``e |x|`` and ``e`` of the row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLACES", "Panels", "make_panels", "scale_of"]

Vector = NDArray[np.float64]

PLACES = 16  # of a panel
_MOST_GROUPS = 32  # bounds that a row keeps
_TAME = 2.0**20  # norm of a centre, times the scale, that floats are used for
_TINY = 2.0**-100  # more than what floats below the normal ones lose
_ABOVE = 1.0 + 2.0**-20


class Panels(NamedTuple):
    """Centres, in the order of the fields that the extension takes.

    Attributes
    ----------
    at : (k, d in whole eights) array
        With zeros after d columns.
    middle : (d in whole eights,) array
        The same; all zeros for CSR rows.
    panels, first : arrays of float32
        For each panel (d + 2, 16), and what the sums begin with.
    label : array of int32
        The centre of each place, -1 for none.
    place : (k,) array of int32
    scale : float
    is_tame : bool
        Floats reach; else every distance is computed in double precision.
    group_panels : int
        Panels of a group.
    """

    at: Vector
    middle: Vector
    panels: NDArray[np.float32]
    first: NDArray[np.float32]
    label: NDArray[np.int32]
    place: NDArray[np.int32]
    scale: float
    is_tame: bool
    group_panels: int

    @property
    def n_groups(self) -> int:
        """Number of groups of centres that bounds are kept for."""
        return -(-self.label.size // (PLACES * self.group_panels))


def scale_of(centers: Vector) -> float:
    """Return a power of two that takes the norms of the centres about their median to about 1. Local."""
    largest = float(np.linalg.norm(centers - np.median(centers, axis=0), axis=1).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) if np.isfinite(largest) and largest > 0.0 else 0
    return float(2.0 ** -np.clip(exponent, -500, 500))


def make_panels(
    centers: Vector,
    is_csr: bool,
    *,
    scale: float | None = None,
    order: NDArray[np.int32] | None = None,
    groups: int = _MOST_GROUPS,
) -> Panels:
    """Return centres as the compiled kernels take them. Local.

    Parameters
    ----------
    centers : (k, d) array
    is_csr : bool
        For CSR rows: the middle is zero.
    scale : float, optional
        A power of two; that of `scale_of` where it is not given.
    order : array of int32, optional
        The centre of each place, a whole number of panels; -1 for none.
    groups : int
        At most, up to 32.
    """
    k, d = centers.shape
    label = _in_order(k) if order is None else order
    place = np.empty(k, np.int32)
    place[label[label >= 0]] = np.flatnonzero(label >= 0)
    middle = np.zeros(d) if is_csr else np.median(centers, axis=0)
    scale = scale_of(centers) if scale is None else scale
    moved = (centers - middle) * scale
    half = np.square(moved).sum(axis=1) / 2.0
    is_tame = bool(np.all(half < _TAME**2))
    columns = np.zeros((d + 2, label.size), np.float32)
    first = np.full(label.size, np.inf, np.float32)
    if is_tame:
        columns[:d, place] = -moved.T
        columns[d, place] = -np.sqrt(2.0 * half) * _ABOVE
        columns[d + 1, place] = -half * _ABOVE
        first[place] = half - _TINY
    panels = columns.reshape(d + 2, -1, PLACES).transpose(1, 0, 2)
    at, padded = np.zeros((k, -(-d // 8) * 8)), np.zeros(-(-d // 8) * 8)
    at[:, :d], padded[:d] = centers, middle
    group = -(-(label.size // PLACES) // min(groups, _MOST_GROUPS))
    return Panels(at, padded, panels.ravel(), first, label, place, scale, is_tame, group)


def _in_order(k: int) -> NDArray[np.int32]:
    places = np.arange(-(-k // PLACES) * PLACES, dtype=np.int32)
    return np.where(places < k, places, np.int32(-1))
