"""New places for centres that no row is nearest to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.least_rows import Keys, least_rows
from hpcml.algorithms.kernels.nearest import nearest
from hpcml.data import Block, Dataset

__all__ = ["refill"]

Matrix = NDArray[np.float64]


def refill(data: Dataset, centers: Matrix, following: Matrix, sizes: Matrix) -> Matrix:
    """Return the next centres with empty ones moved to the rows that are farthest from their centres.

    Collective: one pass and three messages for each start that has an empty centre, none if none has. Rows
    are taken by falling distance, equal ones by their number; rows of weight zero and rows that are centres
    are not. The other centres stay: the next pass takes the rows away from them.

    Parameters
    ----------
    data : Dataset
    centers : (r, k, n_features) array
        Those that rows were nearest to.
    following : (r, k, n_features) array
        The means of their rows.
    sizes : (r, k) array
        Sums of weights; 0 for an empty centre.
    """
    empty = sizes == 0
    starts = np.flatnonzero(empty.any(axis=1)).tolist()
    if not starts:
        return following
    found = least_rows(data, int(empty.sum(axis=1).max()), [_farthest(centers[i]) for i in starts])
    following = following.copy()
    for i, rows in zip(starts, found, strict=True):
        places = np.flatnonzero(empty[i])[: len(rows.X)]
        following[i, places] = rows.X[: places.size]
    return following


def _farthest(centers: Matrix) -> Keys:
    def keys(block: Block) -> Matrix:
        distances = nearest(block, centers).distances
        return np.where((distances > 0) & (block.weights > 0), -distances, np.inf)

    return keys
