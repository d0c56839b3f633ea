"""Least squares with penalties that make coefficients zero."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import ElasticNet as ElasticNetTwin
from sklearn.linear_model import Lasso as LassoTwin
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.linear_model import ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.estimators.regression import LeastSquares
from hpcml.estimators.regressor import LinearRegressor

__all__ = ["ElasticNet", "Lasso"]


class ElasticNet(LeastSquares):
    """Least squares with l1 and l2 penalties, over the rows of all ranks.

    ``sum_i s_i (y_i - x_i . w - b)^2 / (2 sum s) + alpha (l1_ratio ||w||_1 + (1 - l1_ratio) ||w||^2 / 2)``,
    scikit-learn's objective. The answer has the same bits for any number of ranks and any split of the rows;
    coefficients that the penalty makes zero are exactly zero.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength on the mean loss.
    l1_ratio : float, default=0.5
        1 is the lasso, 0 ridge regression.
    fit_intercept : bool, default=True
        The intercept b is not penalised.
    max_iter : int, default=1000
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at zero.
    positive : bool, default=False
        Only coefficients of at least zero.
    solver : {"auto", "gram", "prox_newton", "nesterov", "admm"}, default="auto"
        auto is gram up to 1,000 features: one pass over the rows, whatever alpha. With l1_ratio = 0 the
        solvers of Ridge serve too.
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
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "positive": ["boolean"],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-6,
        positive: bool = False,
        solver: str = "auto",
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.positive = positive
        self.solver = solver
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        return ModelSettings(
            self._kind,
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            lower=0.0 if self.positive else -np.inf,
            fit_intercept=self.fit_intercept,
        )

    def _make_twin(self) -> Any:
        return ElasticNetTwin(
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            fit_intercept=self.fit_intercept,
            positive=self.positive,
        )


class Lasso(ElasticNet):
    """Least squares with an l1 penalty: an ElasticNet whose ``l1_ratio`` is one.

    ``sum_i s_i (y_i - x_i . w - b)^2 / (2 sum s) + alpha ||w||_1``, scikit-learn's objective.

    Parameters
    ----------
    alpha, fit_intercept, max_iter, tol, positive, solver, memory, warm_start, comm
        As of ElasticNet, whose attributes it has too.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: kinds for name, kinds in ElasticNet._parameter_constraints.items() if name != "l1_ratio"
    }
    l1_ratio = 1.0

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-6,
        positive: bool = False,
        solver: str = "auto",
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        super().__init__(
            alpha,
            l1_ratio=1.0,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            positive=positive,
            solver=solver,
            memory=memory,
            warm_start=warm_start,
            comm=comm,
        )

    def _make_twin(self) -> Any:
        return LassoTwin(alpha=self.alpha, fit_intercept=self.fit_intercept, positive=self.positive)
