"""A fitted decomposition: its components, and what rows are in their coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.model import model_digest
from hpcml.data import Matrix

__all__ = ["ComponentsModel", "components_from_arrays"]


class ComponentsModel(NamedTuple):
    """Components of rows less their mean, or of the rows.

    Attributes
    ----------
    kind : {"pca", "truncated_svd"}
    components : (k, n_features) array
        Orthonormal rows.
    mean : (n_features,) array
        0 where the rows were taken as they are.
    singular_values, explained_variance, explained_variance_ratio : (k,) array
    scale : (k,) array
        What coordinates are divided by: their deviations where they are whitened, else 1.
    """

    kind: str
    components: NDArray[np.float64]
    mean: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """Columns of the rows that it takes. Local."""
        return int(self.components.shape[1])

    def transform(self, X: Matrix) -> NDArray[np.float64]:
        """Return ``(X - mean) @ components.T / scale``, (rows, k); CSR rows stay sparse. Local."""
        rows = np.asarray(X @ self.components.T, np.float64)
        return (rows - self.components @ self.mean) / self.scale

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model's numbers by name, for a file. Local."""
        return {name: value for name, value in self._asdict().items() if name != "kind"}

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of its numbers. Local."""
        return model_digest(self.kind, self.arrays())


def components_from_arrays(kind: str, arrays: Mapping[str, NDArray[Any]]) -> ComponentsModel:
    """Return the model that `ComponentsModel.arrays` was taken from. Local."""
    return ComponentsModel(kind, **{name: arrays[name] for name in ComponentsModel._fields[1:]})
