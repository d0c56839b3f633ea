"""A fitted decomposition as a run keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.decompose import Decomposition
from hpcml.algorithms.decomposition.projection import project_block
from hpcml.algorithms.model import model_digest
from hpcml.data import Block

__all__ = ["ComponentsModel", "components_from_arrays"]

_ARRAYS = (
    "components",
    "mean",
    "singular_values",
    "explained_variance",
    "explained_variance_ratio",
)


class ComponentsModel(NamedTuple):
    """Components, and whether coordinates are divided by their deviations.

    Attributes
    ----------
    kind : {"pca", "truncated_svd"}
    found : Decomposition
    whiten : bool
    """

    kind: str
    found: Decomposition
    whiten: bool

    @property
    def n_features(self) -> int:
        """Columns of the rows that it takes. Local."""
        return int(self.found.components.shape[1])

    def transform(self, block: Block) -> NDArray[np.float64]:
        """Return the coordinates of a block's rows, (rows, k). Local."""
        return np.asarray(project_block(self.found, block, whiten=self.whiten), np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model's numbers by name, for a file. Local."""
        found = self.found
        rest = {"noise_variance": found.noise_variance, "n_samples": found.n_samples, "whiten": self.whiten}
        numbers = {name: np.array([value], np.float64) for name, value in rest.items()}
        return {name: getattr(found, name) for name in _ARRAYS} | numbers

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of its numbers. Local."""
        return model_digest(self.kind, self.arrays())


def components_from_arrays(kind: str, arrays: Mapping[str, NDArray[Any]]) -> ComponentsModel:
    """Return the model that `ComponentsModel.arrays` was taken from. Local."""
    noise, n_samples, whiten = (arrays[name][0] for name in ("noise_variance", "n_samples", "whiten"))
    found: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    found |= {"noise_variance": float(noise), "n_samples": int(n_samples)}
    return ComponentsModel(kind, Decomposition(**found), bool(whiten))
