"""A linear support vector classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray
from sklearn.svm import LinearSVC as Twin
from sklearn.utils._param_validation import StrOptions

from hpcml.algorithms.linear_model import LinearModel
from hpcml.collectives import Communicator
from hpcml.estimators.base import Outcome
from hpcml.estimators.classifier import LinearClassifier

__all__ = ["LinearSVC"]


class LinearSVC(LinearClassifier):
    """Support vector classification of two classes by the squared hinge, over the rows of all ranks.

    It minimises ``C sum_i s_i max(0, 1 - t_i (x_i . w + b))^2 + ||w||^2 / 2`` with t = +-1 and the weights s
    of the rows; `objective_` is that divided by ``C sum s``. The intercept b is not penalised, as in every
    model here; scikit-learn's LinearSVC penalises it as one more weight, so the two agree only with
    ``fit_intercept=False``. The answer has the same bits for any number of ranks and any split of the rows.

    Parameters
    ----------
    penalty : {"l2"}, default="l2"
    loss : {"squared_hinge"}, default="squared_hinge"
    C : float, default=1.0
        Inverse strength of the penalty; ``np.inf`` for none.
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to the objective at zero, or without a penalty the
        largest element of the gradient relative to that at zero.
    fit_intercept : bool, default=True
    class_weight : dict, "balanced" or None, default=None
        What the weights of a class's rows are multiplied by: 1 for a label that is not there;
        "balanced" is ``sum s / (2 sum s of the class)``.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "newton_cg", "prox_newton", "admm"}, default="auto"
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
    coef_ : (1, n_features) array
    intercept_ : (1,) array
        Without an intercept the number 0.
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
    >>> from hpcml.estimators import LinearSVC
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> LinearSVC(C=0.1).fit(X, y).converged_
    True
    """

    _kind: ClassVar[str] = "linear_svc"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearClassifier._parameter_constraints,
        "penalty": [StrOptions({"l2"})],
        "loss": [StrOptions({"squared_hinge"})],
    }

    def __init__(
        self,
        penalty: str = "l2",
        loss: str = "squared_hinge",
        *,
        C: float = 1.0,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        super()._set_model(model, classes, outcome)
        if not self.fit_intercept:
            self.intercept_: Any = 0.0  # as scikit-learn has it, of this class alone

    def _make_twin(self) -> Any:
        return Twin(
            C=self.C,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            max_iter=self.max_iter,
        )
