"""What estimators of components share: rows in, coordinates out and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from hpcml.algorithms.decomposition.decompose import Decomposition
from hpcml.algorithms.decomposition.projection import covariance, precision, project, project_block, restore
from hpcml.algorithms.survey import survey
from hpcml.collectives import Communicator
from hpcml.data import ArrayDataset, Dataset, Matrix
from hpcml.estimators.distributed import DistributedEstimator
from hpcml.estimators.inputs import (
    assumes_finite,
    check_same,
    feature_digest,
    is_dataset,
    read_matrix,
    read_points,
    validated,
)

__all__ = ["DecompositionEstimator", "PrincipalComponents", "checked_points"]


def checked_points(comm: Communicator, rows: Matrix) -> Dataset:
    """Return rows as a data set, whose numbers are finite even if scikit-learn was told not to look.

    Collective, three small messages, and six more where it was.
    """
    data = ArrayDataset(rows, comm=comm)
    if assumes_finite():
        survey(data, classes=False, digest=False)
    return data


class DecompositionEstimator(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    DistributedEstimator,
):
    """Components of the rows of all ranks, by scikit-learn's conventions."""

    components_: NDArray[np.float64]

    def transform(self, X: Any) -> NDArray[Any]:
        """Return my rows in the coordinates of the components, (my rows, n_components). Local.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        """
        check_is_fitted(self)
        model, whiten = self._model(), self._whitens()
        if not is_dataset(X):
            return project(model, read_matrix(self, X), whiten=whiten)
        self._check_width(X)
        parts = [project_block(model, block, whiten=whiten) for block in X.blocks()]
        return np.concatenate([np.zeros((0, len(self.components_))), *parts])

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows, (my rows, n_features), that have these coordinates. Local.

        Parameters
        ----------
        X : (my rows, n_components) array
        """
        check_is_fitted(self)
        rows = check_array(X, input_name="X", dtype=[np.float64, np.float32], ensure_min_samples=0)
        return restore(self._model(), rows, whiten=self._whitens())

    def _points(self, comm: Communicator, X: Any, *, reset: bool = True) -> Dataset:
        """Return rows as a data set whose numbers are finite. Collective."""
        if is_dataset(X):
            if reset:
                self._forget_names()
                self.n_features_in_ = X.n_features
            self._check_width(X)
            survey(X, classes=False, digest=False)
            found: Dataset = X
            return found
        return checked_points(comm, self._rows(comm, X, reset=reset))

    def _rows(self, comm: Communicator, X: Any, *, reset: bool = True) -> Matrix:
        """Return my rows by scikit-learn's rules. Collective, two or three small messages."""
        with validated(comm):
            rows, _ = read_points(self, X, None, least=int(comm.size == 1), reset=reset)
        check_same(comm, {"the names of features": feature_digest(self)})
        return rows

    def _whitens(self) -> bool:
        return bool(getattr(self, "whiten", False))

    def _model(self) -> Decomposition:
        """Return the fitted components from the attributes. Local."""
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)


class PrincipalComponents(DecompositionEstimator):
    """Components about a mean, with a noise that stands for those left out."""

    explained_variance_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    noise_variance_: float

    def get_covariance(self) -> NDArray[np.float64]:
        """Return the covariance of the model, (n_features, n_features). Local.

        ``C^T diag(v - noise) C + noise I`` with the components C and their variances v, whitened or not.
        """
        check_is_fitted(self)
        return covariance(self._model())

    def get_precision(self) -> NDArray[np.float64]:
        """Return the inverse of `get_covariance`, (n_features, n_features). Local."""
        check_is_fitted(self)
        return precision(self._model())
