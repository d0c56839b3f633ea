"""A linear classifier and a regressor that are fitted by mini-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier as ClassifierTwin
from sklearn.linear_model import SGDRegressor as RegressorTwin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from hpcml.algorithms.linear_model import LinearModel, ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator, agreed
from hpcml.errors import SpecError
from hpcml.estimators.base import Outcome
from hpcml.estimators.classifier import LinearClassifier
from hpcml.estimators.inputs import check_same, find_comm
from hpcml.estimators.labels import check_classes
from hpcml.estimators.logistic import LogisticRegression
from hpcml.estimators.partial_fit import PartialFit
from hpcml.estimators.regression import LeastSquares

__all__ = ["SGDClassifier", "SGDRegressor"]

_ROUGH = "has no curvature that bounds a step; take 'squared_hinge'"


def _is_logistic(estimator: SGDClassifier) -> bool:
    return estimator.loss == "log_loss"


class SGDClassifier(PartialFit, LinearClassifier):
    """A linear classifier of two classes, fitted by mini-batches of the rows of all ranks.

    It minimises ``(1 / sum s) sum_i s_i loss(y_i, x_i . w + b) + alpha penalty(w)``: scikit-learn's
    objective, but for weights s, whose sum it replaces by the number of rows. Features are scaled inside,
    so steps have no unit. A batch takes its share from all over the data by a permutation keyed by
    `random_state`; the answer has the same bits for any number of ranks and any split of the rows. For an
    optimum to many digits LogisticRegression and LinearSVC are faster.

    Parameters
    ----------
    loss : {"log_loss", "squared_hinge"}, default="log_loss"
        The others of scikit-learn are refused.
    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
    alpha : float, default=1e-4
        Strength on the mean loss.
    l1_ratio : float, default=0.15
        Share of l1 in elasticnet.
    fit_intercept : bool, default=True
        The intercept b is not penalised.
    max_iter : int, default=1000
        Epochs.
    tol : float, default=1e-3
        Bound on the certificate, as of LogisticRegression; scikit-learn's is on the progress of an epoch.
    random_state : int or None, default=None
        Key of the batches; None is 0.
    eta0 : float, default=1.0
        The first step in units of ``1 / L``, with the largest curvature L.
    batch_size : int or None, default=None
        Rows of a batch over all ranks; None is a 64th of all, at least 32.
    class_weight : dict, "balanced" or None, default=None
        What the weights of a class's rows are multiplied by.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, the same on every rank.
    average : bool, default=False
        Give the average of the iterates of steps that shrink, rather than reduce the variance of the steps.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (1, n_features) array
    intercept_ : (1,) array
    classes_ : (2,) array
        Labels of rows that weigh, in order.
    n_iter_ : int
        Epochs.
    t_ : float
        One more than the rows that were seen, with repetition.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.
    certificate_ : float
        NaN after `partial_fit`, as is `objective_`.
    converged_ : bool
        Whether the certificate is at most tol.
    objective_ : float
    reason_ : str
        Why the fit ended.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from hpcml.estimators import SGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> SGDClassifier(alpha=0.01).fit(X, y).converged_
    True
    """

    _kinds: ClassVar[dict[str, str]] = {"log_loss": "logistic_regression", "squared_hinge": "linear_svc"}
    _refused: ClassVar[dict[str, str]] = dict.fromkeys(("hinge", "modified_huber", "perceptron"), _ROUGH)
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **PartialFit._parameter_constraints,
        "loss": [StrOptions(set(_kinds))],
        "class_weight": LinearClassifier._parameter_constraints["class_weight"],
    }

    def __init__(
        self,
        loss: str = "log_loss",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-3,
        random_state: int | None = None,
        eta0: float = 1.0,
        batch_size: int | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        average: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.eta0 = eta0
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.comm = comm

    predict_proba = available_if(_is_logistic)(LogisticRegression.predict_proba)
    predict_log_proba = available_if(_is_logistic)(LogisticRegression.predict_log_proba)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Walk once over the rows of all ranks, on from where the last call ended. Collective.

        One pass of steps that shrink from call to call, and three passes to know the rows; no certificate.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. A call may bring rows of one class alone.
        classes : (2,) array
            All labels that will come, in the first call; later calls may leave them out.

        Raises
        ------
        SpecError
            No classes in the first call, or others later. A ValueError.
        DataError
            The rows cannot be used. A ValueError.
        """
        comm = find_comm(self.comm, X)
        with agreed(comm):
            known = self._known_classes(classes)
        check_same(comm, {"classes": str(known.tolist())})
        return self._partial_fit(X, y, sample_weight, known)

    def _known_classes(self, classes: Any) -> NDArray[Any]:
        """Return the classes of the first call. Local."""
        before: Any = getattr(self, "classes_", None)
        if classes is None and before is None:
            raise SpecError("classes must be passed on the first call to partial_fit.")
        if isinstance(self.class_weight, str):
            raise SpecError(
                "class_weight 'balanced' is not supported for partial_fit, which never knows all rows; give "
                "the weights as a dict"
            )
        found: NDArray[Any] = np.unique(before if classes is None else classes)
        if before is not None and not np.array_equal(found, before):
            raise SpecError(f"classes={classes!r} is not the same as on the last call: {before.tolist()}")
        check_classes(found.tolist(), 2)
        return found

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        settings = super()._settings(found, classes)
        names = found.classes if classes is None else classes
        weight = self._class_weight(dict(zip(names.tolist(), found.classes.tolist(), strict=True)))
        return replace(settings, class_weight=weight)

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        super()._set_model(model, classes, outcome)
        self.n_iter_ = outcome.n_iter

    def _make_twin(self) -> Any:
        return ClassifierTwin(
            self.loss,
            penalty=self.penalty,
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            random_state=self.random_state,
        )


class SGDRegressor(PartialFit, LeastSquares):  # type: ignore[override]  # _kind is of the object
    """A linear regression, fitted by mini-batches of the rows of all ranks.

    It minimises ``(1 / sum s) sum_i s_i loss(y_i, x_i . w + b) + alpha penalty(w)`` as SGDClassifier does,
    for the loss ``(y - z)^2 / 2``, or Huber's of r = y - z, ``r^2 / 2`` up to epsilon, then ``epsilon (|r| -
    epsilon / 2)``. For an optimum to many digits Ridge, Lasso and ElasticNet are faster.

    Parameters
    ----------
    loss : {"squared_error", "huber"}, default="squared_error"
        The others of scikit-learn are refused.
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol
        As of SGDClassifier.
    epsilon : float, default=0.1
        Of Huber's loss, in units of y.
    random_state, eta0, batch_size, warm_start, average, comm
        As of SGDClassifier.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
    n_iter_ : int
        Epochs.
    t_, n_features_in_, feature_names_in_, certificate_, converged_, objective_, reason_
        As of SGDClassifier.
    """

    _kinds: ClassVar[dict[str, str]] = {"squared_error": "linear_regression", "huber": "huber_regression"}
    _refused: ClassVar[dict[str, str]] = dict.fromkeys(
        ("epsilon_insensitive", "squared_epsilon_insensitive"),
        "is not there; take 'huber'",
    )
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **PartialFit._parameter_constraints,
        "loss": [StrOptions(set(_kinds))],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-3,
        epsilon: float = 0.1,
        random_state: int | None = None,
        eta0: float = 1.0,
        batch_size: int | None = None,
        warm_start: bool = False,
        average: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.epsilon = epsilon
        self.random_state = random_state
        self.eta0 = eta0
        self.batch_size = batch_size
        self.warm_start = warm_start
        self.average = average
        self.comm = comm

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Walk once over the rows of all ranks, on from where the last call ended. Collective.

        As SGDClassifier's, without classes.
        """
        return self._partial_fit(X, y, sample_weight, np.zeros(0))

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        return replace(super()._settings(found, classes), epsilon=self.epsilon, scale=1.0)

    def _make_twin(self) -> Any:
        return RegressorTwin(
            self.loss,
            penalty=self.penalty,
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            fit_intercept=self.fit_intercept,
            epsilon=self.epsilon,
            random_state=self.random_state,
        )
