"""What the regressors share: predictions, and a vector of coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from hpcml.algorithms.linear_model import LinearModel
from hpcml.estimators.base import LinearEstimator, Outcome

__all__ = ["LinearRegressor"]


class LinearRegressor(RegressorMixin, LinearEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear model of the mean, or of its logarithm."""

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the mean of y at each of my rows, (my rows,). Local."""
        z = self._raw_prediction(X)
        return self._model().predicted(z)

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
