"""What estimators of clusters share: labels, distances and a score from centres."""

from __future__ import annotations

import hashlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.clustering.metrics import inertia
from hpcml.algorithms.kernels.nearest import nearest
from hpcml.collectives import Communicator, SerialCommunicator
from hpcml.data import ArrayDataset, Block
from hpcml.estimators.distributed import DistributedEstimator
from hpcml.estimators.inputs import check_same, find_comm, is_dataset, read_matrix

__all__ = ["ClusterEstimator"]


class ClusterEstimator(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    DistributedEstimator,
):
    """Centres over the rows of all ranks, by scikit-learn's conventions."""

    init: Any
    cluster_centers_: NDArray[np.float64]
    labels_: NDArray[np.int32]

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find centres for the rows of all ranks. Collective; see the subclasses."""
        raise NotImplementedError

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.int32]:
        """Find centres and return the labels of my rows, (my rows,). Collective. See `fit`."""
        return self.fit(X, y, sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Find centres and return my rows' distances to them. Collective. See `fit` and `transform`."""
        return self.fit(X, y, sample_weight).transform(X)

    def predict(self, X: Any) -> NDArray[np.int32]:
        """Return the nearest centre of each of my rows, the first of equally near ones, (my rows,). Local.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        """
        blocks = self._blocks(X)
        labels = [nearest(block, self.cluster_centers_).labels for block in blocks]
        return np.concatenate([np.zeros(0, np.int32), *labels])

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the distance of each of my rows to each centre, (my rows, n_clusters). Local.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        """
        blocks = self._blocks(X)
        parts = [_distances(block, self.cluster_centers_) for block in blocks]
        return np.concatenate([np.zeros((0, len(self.cluster_centers_))), *parts])

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the inertia of the rows of all ranks, ``-sum s |x - c|^2``. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        y : ignored
        sample_weight : (my rows,) array, optional
            Not with a Dataset.
        """
        check_is_fitted(self)
        comm = find_comm(self.comm, X)
        return -inertia(self._weighted_points(comm, X, sample_weight, reset=False), self.cluster_centers_)

    def _given_centers(self, comm: Communicator) -> NDArray[np.float64] | None:
        """Return the centres that `init` gives, if it does. Collective then, two small messages."""
        if isinstance(self.init, str):
            return None
        centers = np.ascontiguousarray(self.init, np.float64)
        check_same(comm, {"init": hashlib.sha256(centers.tobytes()).hexdigest()})
        return centers

    def _blocks(self, X: Any) -> Any:
        """Yield my rows as blocks. Local."""
        check_is_fitted(self)
        if is_dataset(X):
            self._check_width(X)
            return X.blocks()
        rows = read_matrix(self, X)
        return ArrayDataset(rows, comm=SerialCommunicator()).blocks() if rows.shape[0] else ()

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)


def _distances(block: Block, centers: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = [nearest(block, center[None]).distances for center in centers]
    return np.sqrt(np.stack(columns, axis=1))
