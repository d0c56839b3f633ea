"""Nearest centres of rows while centres are added: each pass compares with the new ones alone. All Local."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.nearest import Nearest, nearest
from hpcml.data import Block, Dataset

__all__ = ["GrowingNearest"]

_ROW_BYTES = 12
_MOST_BYTES = 2 << 30


class GrowingNearest:
    """Centres, and what is nearest to the rows that were seen.

    Parameters
    ----------
    data : Dataset
    n_starts : int
        How many of these are kept at once: where 12 bytes a row and start would take a process more than
        2 GiB, nothing is kept, and rows are compared with all centres. What is found is the same.

    Attributes
    ----------
    centers : (any, n_features) array
    """

    def __init__(self, data: Dataset, n_starts: int) -> None:
        self.centers: NDArray[np.float64] = np.zeros((0, data.n_features))
        each = -(-data.n_samples // data.comm.size)
        self._keeps = each * n_starts * _ROW_BYTES <= _MOST_BYTES
        self._known: dict[int, tuple[int, Nearest]] = {}

    def add(self, centers: NDArray[np.float64]) -> None:
        """Take more centres."""
        self.centers = np.concatenate([self.centers, centers])

    def nearest(self, block: Block) -> Nearest:
        """Return the nearest centre of each row, the first of equally near ones, and its squared distance.

        There is a centre by now.
        """
        if not (self._keeps and block.n_rows):
            return nearest(block, self.centers)
        first = int(block.index_of(0, 1)[0])
        n, known = self._known.get(first, (0, None))
        if known is None or known.labels.size != block.n_rows:
            found = nearest(block, self.centers)
        elif n < len(self.centers):
            found = _nearer(known, nearest(block, self.centers[n:]), n)
        else:
            found = known
        self._known[first] = len(self.centers), found
        return found


def _nearer(known: Nearest, new: Nearest, first: int) -> Nearest:
    """Return the nearer of two, the known one of equals; the new labels count from `first`."""
    is_nearer = new.distances < known.distances
    labels = np.where(is_nearer, new.labels + np.int32(first), known.labels)
    return Nearest(labels, np.where(is_nearer, new.distances, known.distances))
