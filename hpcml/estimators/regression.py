"""Least squares, plain and with an l2 penalty."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression as LinearTwin
from sklearn.linear_model import Ridge as RidgeTwin
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.linear_model import ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.regressor import LinearRegressor
from hpcml.estimators.scoring import r2

__all__ = ["LeastSquares", "LinearRegression", "Ridge"]


class LeastSquares(LinearRegressor):
    """Regressors of the squared loss: what they share is R^2."""

    _kind: ClassVar[str] = "linear_regression"

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> float:
        """Return the weighted R^2 of the rows of all ranks. Collective.

        ``1 - sum s (y - z)^2 / sum s (y - mean y)^2`` with the offsets in z alone. The arguments are as in
        `fit`; the result is the same on every rank.
        """
        with one_blas_thread():
            return r2(*self._scored_data(X, y, sample_weight, offset))


class LinearRegression(LeastSquares):
    """Least squares over the rows of all ranks: ``sum_i s_i (y_i - x_i . w - b)^2``.

    Where columns are collinear or outnumber the rows, many w are best; the newton solver takes
    scikit-learn's, that of least ``||w||``. The other solvers give one whose gradient vanishes. `objective_`
    is the sum divided by ``2 sum s``. The answer has the same bits for any number of ranks and any split of
    the rows.

    Parameters
    ----------
    fit_intercept : bool, default=True
    tol : float, default=1e-6
        Bound on the certificate: the largest element of the gradient relative to that at zero.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "newton_cg", "gram", "admm"}, default="auto"
        auto is newton up to 200 features, else newton_cg.
    max_iter : int, default=100
    memory : int, default=10
        Pairs that lbfgs keeps.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, the same on every rank.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
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
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        return ModelSettings(self._kind, alpha=0.0, fit_intercept=self.fit_intercept)

    def _make_twin(self) -> Any:
        return LinearTwin(fit_intercept=self.fit_intercept)


class Ridge(LeastSquares):
    """Least squares with an l2 penalty: ``sum_i s_i (y_i - x_i . w - b)^2 + alpha ||w||^2``.

    That is scikit-learn's objective; `objective_` is that divided by ``2 sum s``. The answer has the same
    bits for any number of ranks and any split of the rows.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength on the sum of squares; 0 for none.
    fit_intercept : bool, default=True
        The intercept b is not penalised.
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at zero.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "newton_cg", "gram", "admm"}, default="auto"
        auto is newton up to 200 features, else newton_cg.
    max_iter : int, default=100
    memory : int, default=10
        Pairs that lbfgs keeps.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, the same on every rank.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
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
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearRegressor._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        alpha = self.alpha / found.total_weight
        return ModelSettings(self._kind, alpha=alpha, fit_intercept=self.fit_intercept)

    def _make_twin(self) -> Any:
        return RidgeTwin(alpha=self.alpha, fit_intercept=self.fit_intercept)
