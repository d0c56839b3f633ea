"""What the regressors share: predictions, and a vector of coefficients."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from hpcml.algorithms.linear_model import LinearModel
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.estimators.inputs import is_dataset, read_offset, refuse_beside

__all__ = ["LinearRegressor"]


class LinearRegressor(RegressorMixin, LinearEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear model of the mean, or of its logarithm."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit the model to the rows of all ranks. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none. A Dataset brings its communicator, y, weights
            and offsets.
        y : (my rows,) array
            Not with a Dataset.
        sample_weight : (my rows,) array, optional
            Not with a Dataset. A row of weight 2 counts as two, a row of weight 0 as absent.
        offset : (my rows,) array, optional
            Not with a Dataset. Added to ``x . w + b`` of each row: the logarithm of its exposure, where the
            model is of the logarithm of the mean.

        Returns
        -------
        self

        Raises
        ------
        SpecError
            A parameter is wrong, or ranks differ in one. A ValueError.
        DataError
            The rows cannot be used. A ValueError. Both are the same on every rank.
        """
        return self._fitted(X, y, sample_weight, offset)

    def predict(self, X: Any, offset: Any = None) -> NDArray[np.float64]:
        """Return the mean of y at each of my rows, (my rows,). Local.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            A Dataset brings its offsets.
        offset : (my rows,) array, optional
            As in `fit`; without one it is 0, an exposure of 1.
        """
        if is_dataset(X):
            refuse_beside(offset=offset)
        z = self._raw_prediction(X)
        added = read_offset(offset, z.size)
        return self._model().predicted(z if added is None else z + added)

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        self._set_outcome(outcome)
        self.coef_ = model.coef.copy()
        self.intercept_ = float(model.intercept)

    def _model(self) -> LinearModel:
        d = self.n_features_in_
        no_classes, power = np.zeros(0), self._tweedie_power
        return LinearModel(
            self._kind, self.coef_, self.intercept_, no_classes, np.zeros(d), np.ones(d), power
        )

    @property
    def _tweedie_power(self) -> float:
        """The power of a Tweedie deviance, else 0. Local."""
        return 0.0
