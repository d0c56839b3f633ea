"""Logistic regression."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression as Twin
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.linear_model import LinearModel, ModelSettings
from hpcml.collectives import Communicator
from hpcml.errors import DataError
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.inputs import Rows
from hpcml.estimators.labels import Labels, agree_on_classes, check_binary, find_labels
from hpcml.estimators.scoring import accuracy

__all__ = ["LogisticRegression"]


class LogisticRegression(ClassifierMixin, LinearEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Logistic regression of two classes with an l2 penalty, over the rows of all ranks.

    It minimises scikit-learn's objective, ``C sum_i s_i log(1 + exp(-t_i (x_i . w + b))) + ||w||^2 / 2``
    with t = +-1, the weights s of the rows and an intercept b that is not penalised; `objective_` is that
    divided by ``C sum s``. The answer has the same bits for any number of ranks and any split of the rows.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; ``np.inf`` for none.
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at zero, or without a penalty the
        largest element of the gradient relative to that at zero.
    fit_intercept : bool, default=True
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton"}, default="auto"
        auto is newton up to 1,000 features, else lbfgs.
    max_iter : int, default=100
    memory : int, default=10
        Pairs that lbfgs keeps.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (1, n_features) array
    intercept_ : (1,) array
    classes_ : (2,) array
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
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearEstimator._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="right")],
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        comm: Communicator | str | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.comm = comm

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``X @ coef + intercept`` of my rows, (my rows,). Local."""
        return self._raw_prediction(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likelier class of each of my rows, (my rows,). Local."""
        z = self.decision_function(X)
        chosen: NDArray[Any] = self.classes_[(z > 0).astype(int)]
        return chosen

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return ``1 / (1 + exp(-z))`` for the second class, the rest for the first, (my rows, 2). Local."""
        p = expit(self.decision_function(X))
        return np.stack([1 - p, p], axis=1)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of each class's probability, (my rows, 2), finite for any row. Local.

        ``-log(1 + exp(z))`` and ``-log(1 + exp(-z))``; scikit-learn's logarithm of a rounded probability
        is -inf from z = 37 on.
        """
        z = self.decision_function(X)
        return -np.logaddexp(0.0, np.stack([z, -z], axis=1))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of rows of all ranks whose class is predicted, weighted. Collective.

        X, y and sample_weight are as in `fit`; the result is the same on every rank.
        """
        with one_blas_thread():
            return accuracy(*self._scored_data(X, y, sample_weight))

    def _settings(self, total_weight: float) -> ModelSettings:
        return ModelSettings(self._kind, C=self.C, fit_intercept=self.fit_intercept)

    def _read_target(self, rows: Rows) -> Labels:
        return find_labels(rows.y, rows.weight)

    def _agree_on_target(self, comm: Communicator, target: Labels) -> tuple[NDArray[Any], NDArray[Any]]:
        classes = agree_on_classes(comm, target)
        # Labels that are not classes have weight zero: any code does.
        return np.maximum(target.codes(classes), 0.0), classes

    def _known_target(self, rows: Rows) -> NDArray[Any]:
        return find_labels(rows.y, None).codes(self.classes_)

    def _check_classes(self, classes: NDArray[np.float64]) -> None:
        check_binary(classes.tolist())

    def _numeric_classes(self) -> NDArray[np.float64]:
        if self.classes_.dtype.kind not in "biuf":
            raise DataError(f"a data set's y are numbers, but the classes are {self.classes_.tolist()}")
        return self.classes_.astype(np.float64)

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        self._set_outcome(outcome)
        self.coef_ = model.coef[None].copy()
        self.intercept_ = np.array([model.intercept])
        self.classes_ = classes
        self.n_iter_ = np.array([outcome.n_iter], np.int32)

    def _model(self) -> LinearModel:
        none, ones = np.zeros(self.n_features_in_), np.ones(self.n_features_in_)
        codes = np.array([0.0, 1.0])
        return LinearModel(self._kind, self.coef_[0], float(self.intercept_[0]), codes, none, ones)

    def _make_twin(self) -> Any:
        return Twin(C=self.C, fit_intercept=self.fit_intercept, max_iter=self.max_iter)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
