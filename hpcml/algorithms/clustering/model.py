"""A fitted clustering: its centres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.model import model_digest

__all__ = ["ClusterModel", "clusters_from_arrays"]


class ClusterModel(NamedTuple):
    """Centres, and the weight of the rows that are nearest to each.

    Attributes
    ----------
    kind : {"kmeans", "minibatch_kmeans"}
    centers : (k, n_features) array
    sizes : (k,) array
        Of mini-batches the weight of the rows that chose each so far.
    """

    kind: str
    centers: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """Columns of the rows that it takes. Local."""
        return int(self.centers.shape[1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model's numbers by name, for a file. Local."""
        return {"centers": self.centers, "sizes": self.sizes}

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of its numbers. Local."""
        return model_digest(self.kind, self.arrays())


def clusters_from_arrays(kind: str, arrays: Mapping[str, NDArray[Any]]) -> ClusterModel:
    """Return the model that `ClusterModel.arrays` was taken from. Local."""
    return ClusterModel(kind, arrays["centers"], arrays["sizes"])
