"""Logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax
from sklearn.linear_model import LogisticRegression as Twin
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.linear_model import ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.estimators.classifier import LinearClassifier

__all__ = ["LogisticRegression"]


class LogisticRegression(LinearClassifier):
    """Logistic regression, of two classes or multinomial, over the rows of all ranks.

    It minimises scikit-learn's objective, ``C sum_i s_i log(1 + exp(-t_i (x_i . w + b)))`` plus
    ``l1_ratio ||w||_1 + (1 - l1_ratio) ||w||^2 / 2`` with t = +-1, the weights s of the rows and an intercept
    b that is not penalised; `objective_` is that divided by ``C sum s``. The answer has the same bits for any
    number of ranks and any split of the rows. With more than two classes each has weights and an intercept,
    the loss of a row is ``log sum_c exp(x . w_c + b_c) - x . w_y - b_y``, and the intercepts have mean zero.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; ``np.inf`` for none.
    l1_ratio : float, default=0.0
        0 is l2, 1 is l1, between them elastic net.
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at zero, or without a penalty the
        largest element of the gradient relative to that at zero.
    fit_intercept : bool, default=True
    class_weight : dict, "balanced" or None, default=None
        What the weights of a class's rows are multiplied by: 1 for a label that is not there;
        "balanced" is ``sum s / (n_classes sum s of the class)``.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "newton_cg", "prox_newton", "admm"}, default="auto"
        auto is newton up to 200 features, else newton_cg; prox_newton with an l1 part. With more than two
        classes it is newton_cg, or nesterov with an l1 part, and newton, prox_newton and admm are refused.
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
    coef_ : (1, n_features) array
        With more than two classes (n_classes, n_features).
    intercept_ : (1,) array
        With more than two classes (n_classes,).
    classes_ : (n_classes,) array
        Labels of rows that weigh, in order.
    n_iter_ : (1,) array of int
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
    >>> from sklearn.datasets import load_breast_cancer
    >>> from hpcml.estimators import LogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> model.converged_
    True
    """

    _kind: ClassVar[str] = "logistic_regression"
    _most_classes: ClassVar[int] = 1000
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearClassifier._parameter_constraints,
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        l1_ratio: float = 0.0,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        return replace(super()._settings(found, classes), l1_ratio=self.l1_ratio)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (my rows, n_classes). Local.

        Of two ``1 / (1 + exp(-z))`` for the second, the rest for the first; of more ``exp(z) / sum exp(z)``.
        """
        z = self.decision_function(X)
        if z.ndim == 2:
            return np.asarray(softmax(z, axis=1))
        p = expit(z)
        return np.stack([1 - p, p], axis=1)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of each class's probability, (my rows, n_classes), finite for any row. Local.

        Of two ``-log(1 + exp(z))`` and ``-log(1 + exp(-z))``; scikit-learn's logarithm of a rounded
        probability is -inf from z = 37 on.
        """
        z = self.decision_function(X)
        if z.ndim == 2:
            return np.asarray(log_softmax(z, axis=1))
        return -np.logaddexp(0.0, np.stack([z, -z], axis=1))

    def _make_twin(self) -> Any:
        return Twin(
            C=self.C,
            l1_ratio=self.l1_ratio,
            solver="saga" if self.l1_ratio else "lbfgs",
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            max_iter=self.max_iter,
        )
