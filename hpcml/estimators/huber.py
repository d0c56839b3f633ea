"""Regression that outliers do not bend."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import HuberRegressor as Twin
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.linear_model import LinearModel, ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.estimators.base import Outcome
from hpcml.estimators.inputs import is_dataset
from hpcml.estimators.regression import LeastSquares

__all__ = ["HuberRegressor"]


class HuberRegressor(LeastSquares):
    """Huber's regression whose scale is found along with the weights, over the rows of all ranks.

    It minimises scikit-learn's objective, ``sum_i s_i (sigma + H(r_i / sigma) sigma) + alpha ||w||^2`` over
    w, b and sigma > 0 with the residuals ``r = y - x . w - b``, ``H(t) = t^2`` up to epsilon and
    ``2 epsilon |t| - epsilon^2`` above it; `objective_` is that divided by ``2 sum s``. The intercept b is
    not penalised. The answer has the same bits for any number of ranks and any split of the rows.

    Parameters
    ----------
    epsilon : float, default=1.35
        Above 1: residuals larger than epsilon sigma are outliers, and count by their size alone.
    max_iter : int, default=100
    alpha : float, default=1e-4
        Strength on the sum; 0 for none.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, the same on every rank.
    fit_intercept : bool, default=True
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at w = 0 and the mean of y, or
        without a penalty the largest element of the gradient relative to that there.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "prox_newton"}, default="auto"
        auto is newton up to 200 features, else lbfgs.
    memory : int, default=10
        Pairs that lbfgs keeps.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
    scale_ : float
        sigma.
    outliers_ : (my rows,) array of bool
        Rows whose residual is above ``epsilon scale_``; of those given to `fit`.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.
    certificate_ : float
    converged_ : bool
        Whether the certificate is at most tol.
    objective_ : float
    reason_ : str
        Why the fit ended.

    Examples
    --------
    >>> from hpcml.estimators import HuberRegressor
    >>> X, y = [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]], [1.1, 2.0, 3.1, 3.9, 5.0, 60.0]
    >>> model = HuberRegressor().fit(X, y)
    >>> model.outliers_.tolist()
    [False, False, False, False, False, True]
    """

    _kind: ClassVar[str] = "huber_regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LeastSquares._parameter_constraints,
        "epsilon": [Interval(Real, 1.0, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        epsilon: float = 1.35,
        max_iter: int = 100,
        alpha: float = 1e-4,
        warm_start: bool = False,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str = "auto",
        memory: int = 10,
        comm: Communicator | str | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.max_iter = max_iter
        self.alpha = alpha
        self.warm_start = warm_start
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.memory = memory
        self.comm = comm

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit the model to the rows of all ranks; see `LinearRegression.fit`. Collective."""
        super().fit(X, y, sample_weight, offset)
        labels = (
            [block.y for block in X.blocks()] if is_dataset(X) else [np.asarray(y, np.float64).reshape(-1)]
        )
        residual = np.concatenate([np.zeros(0), *labels]) - self.predict(X, offset)
        self.outliers_: NDArray[np.bool_] = np.abs(residual) > self.epsilon * self.scale_
        return self

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin: another object of the same predictions. Local."""
        twin = super().to_sklearn()
        twin.scale_ = self.scale_
        if hasattr(self, "outliers_"):
            twin.outliers_ = self.outliers_.copy()
        return twin

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        alpha, epsilon = self.alpha / found.total_weight, self.epsilon
        return ModelSettings(self._kind, alpha=alpha, fit_intercept=self.fit_intercept, epsilon=epsilon)

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        super()._set_model(model, classes, outcome)
        self.scale_ = model.delta / self.epsilon

    def _model(self) -> LinearModel:
        return super()._model()._replace(delta=self.epsilon * self.scale_)

    def _make_twin(self) -> Any:
        return Twin(epsilon=self.epsilon, alpha=self.alpha, fit_intercept=self.fit_intercept)
