"""Passes of k-means that leave out centres which cannot be nearer: the bounds of Yinyang, and of Hamerly.

For each row a bound is kept for each group of centres: no centre of the group but the row's own is nearer.
When the farthest mover of a group went by m, the bound falls by m. Groups whose bound is still above the
distance to the row's own centre are left out (Ding et al., ICML 2015); with up to 16 centres there is one
group, and the bound is that of Hamerly (SDM 2010). Labels and sums have the bits of a pass over all centres:
bounds are rounded down, and what is summed is made from all rows anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.centers import PLACES, Panels, make_panels
from hpcml.algorithms.kernels.nearest import bounded_sums, lloyd_sums, n_cluster_sums
from hpcml.algorithms.kernels.passes import is_compiled, runs
from hpcml.data import Block, is_csr

__all__ = ["Bounds", "grouped", "row_bytes"]

Vector = NDArray[np.float64]
Places = NDArray[np.int32]

_ABOVE = 1.0 + 2.0**-20
_TINY = 2.0**-40  # of a norm: far more than distances of CSR rows lose to rounding
_FAR = 1024.0  # scaled way of a group, beyond which floats hold too little of a bound


class _Known(NamedTuple):
    """Of the rows of a run: labels, bounds, and the number after that of the last row."""

    labels: Places
    lower: NDArray[np.float32]
    stop: int


class _Now(NamedTuple):
    """The centres of a pass, and for each group how far its farthest mover has gone so far, scaled."""

    centers: Vector
    panels: Panels
    ways: Vector


class Bounds:
    """What one start of a fit remembers of its rows; see `Assignment`.

    Nothing of it belongs into a checkpoint: rows that are not known are compared with all centres.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._now: _Now | None = None

    def sums(self, block: Block, centers: Vector) -> Iterator[Vector]:
        """Yield ``[sum s x of each centre's rows, sum s of them, sum s distance]``, (any, k (d + 1) + 1).

        Local. One row for each shard in order; the bits are those of `lloyd_sums`.

        Parameters
        ----------
        block : Block
        centers : (k, n_features) array
        """
        if not is_compiled(block.X):
            yield from lloyd_sums(block, centers)
            return
        now = self._turn_to(centers, is_csr(block.X))
        for run in runs(block, 8 * n_cluster_sums(*centers.shape)):
            yield self._sums(run, now)

    def _turn_to(self, centers: Vector, is_sparse: bool) -> _Now:
        """Return these centres, in the order and scale of the first unless those are unfit."""
        now = self._now
        if now is not None:
            if np.array_equal(now.centers, centers):
                return now
            old = now.panels
            panels = make_panels(centers, is_sparse, scale=old.scale, order=old.label, groups=old.n_groups)
            ways = now.ways + _farthest(now.centers, centers, panels)
        if now is None or not panels.is_tame or not ways.max() < _FAR:
            self._known.clear()
            groups = _n_groups(*centers.shape)
            panels = make_panels(centers, is_sparse, order=grouped(centers), groups=groups)
            ways = np.zeros(panels.n_groups)
        self._now = _Now(centers.copy(), panels, ways)
        return self._now

    def _sums(self, run: Block, now: _Now) -> Vector:
        first = _first_row(run)
        known = self._known.get(first)
        if known is None or known.labels.size != run.n_rows:
            self._known[first] = known = self._make_room(run, first, now)
        return bounded_sums(run, now.panels, known.labels, known.lower, now.ways.astype(np.float32))

    def _make_room(self, run: Block, first: int, now: _Now) -> _Known:
        """Forget runs that were cut otherwise, and return arrays for this one."""
        stop = int(run.index_of(run.n_rows - 1, run.n_rows)[0]) + 1 if run.n_rows else first
        for start, other in list(self._known.items()):
            if start < stop and other.stop > first:
                del self._known[start]
        lower = np.zeros(run.n_rows * now.panels.n_groups + PLACES, np.float32)
        return _Known(np.full(run.n_rows, -1, np.int32), lower, stop)


def _first_row(run: Block) -> int:
    """Return the first row's number, -1 without rows: runs of a selection may start at the same place."""
    return int(run.index_of(0, 1)[0]) if run.n_rows else -1


def row_bytes(k: int, d: int) -> int:
    """Return the bytes that `Bounds` keeps for a row."""
    return 4 + 4 * -(-_panels_of(k) // -(-_panels_of(k) // _n_groups(k, d)))


def grouped(centers: Vector) -> Places:
    """Return centres in panels of 16 near ones, -1 where a panel has fewer. Local.

    Halves are made across the column of the widest spread until they fit.
    """
    order: list[int] = []
    waiting = [np.arange(len(centers))]
    while waiting:
        some = waiting.pop()
        if some.size <= PLACES:
            order += [*some.tolist(), *[-1] * (PLACES - some.size)]
            continue
        column = int(np.argmax(np.ptp(centers[some], axis=0)))
        some = some[np.argsort(centers[some, column], kind="stable")]
        half = PLACES * (_panels_of(some.size) // 2)
        waiting += [some[half:], some[:half]]
    return np.array(order, np.int32)


def _panels_of(k: int) -> int:
    return -(-k // PLACES)


def _n_groups(k: int, d: int) -> int:
    """Return how many bounds pay: rows of few columns are compared as fast as their bounds are read."""
    return min(_panels_of(k), max(1, d // 2), 32)


def _farthest(before: Vector, after: Vector, panels: Panels) -> Vector:
    """Return how far a centre of each group moved, at least, scaled."""
    label = panels.label
    moved = np.sqrt(np.square(after - before).sum(axis=1)) + _TINY * np.sqrt(np.square(after).sum(axis=1))
    at_places = np.where(label >= 0, moved[label], 0.0) * panels.scale * _ABOVE
    starts = np.arange(0, at_places.size, PLACES * panels.group_panels)
    return np.asarray(np.maximum.reduceat(at_places, starts))
