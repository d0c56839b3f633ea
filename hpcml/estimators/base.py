"""What the linear estimators share: from rows to a fitted model, and back."""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.choice import SOLVERS, choose_solver
from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.linear_model import LinearModel, ModelSettings, make_model, make_objective
from hpcml.algorithms.losses.kinds import CLASSIFIERS, make_loss
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.progressive import warm_start
from hpcml.algorithms.solver import Result, Rules, Solver, run_solver
from hpcml.algorithms.survey import Names, Survey, survey
from hpcml.algorithms.target import look_at_target
from hpcml.collectives import Communicator, agreed
from hpcml.data import ArrayDataset, Dataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.distributed import DistributedEstimator
from hpcml.estimators.inputs import (
    Rows,
    assumes_finite,
    check_dataset,
    check_same,
    feature_digest,
    find_comm,
    is_dataset,
    read_matrix,
    read_rows,
    validated,
)

__all__ = ["UNKNOWN", "LinearEstimator", "Outcome"]

_NAMES = Names(weight="sample_weight")


class Outcome(NamedTuple):
    """How a fit ended; the defaults stand for a model whose fit is not known.

    Attributes
    ----------
    n_iter : int
    objective : float
        Mean loss plus penalty.
    certificate : float
        What `tol` is compared with.
    converged : bool
    reason : str
    """

    n_iter: int = 0
    objective: float = math.nan
    certificate: float = math.nan
    converged: bool = False
    reason: str = "the fit is not known"


UNKNOWN = Outcome()


def _outcome(result: Result) -> Outcome:
    return Outcome(result.n_iter, result.objective, result.certificate.value, result.converged, result.reason)


class LinearEstimator(DistributedEstimator):
    """A linear model of scikit-learn's conventions over the rows of all ranks.

    Subclasses say the loss, the penalty, how y becomes numbers, and the shapes of their attributes.
    """

    _kind: ClassVar[str]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "memory": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model to the rows of all ranks. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none. A Dataset brings its communicator, y
            and weights.
        y : (my rows,) array
            Not with a Dataset.
        sample_weight : (my rows,) array, optional
            Not with a Dataset. A row of weight 2 counts as two, a row of weight 0 as absent.

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
        return self._fitted(X, y, sample_weight, None)

    def _fitted(self, X: Any, y: Any, sample_weight: Any, offset: Any) -> Self:
        """Fit the model to rows with offsets, where it takes them. Collective."""
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            data, classes = self._training_data(comm, X, y, sample_weight, offset)
            model, result = self._solved(data, classes, checked=not (is_dataset(X) or assumes_finite()))
        self._set_model(model, model.classes if classes is None else classes, _outcome(result))
        if comm.rank == 0 and not result.converged:
            warnings.warn(self._not_converged(), ConvergenceWarning, stacklevel=3)
        return self

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin: another object of the same predictions. Local."""
        check_is_fitted(self)
        twin = self._make_twin()
        for name in ("coef_", "intercept_", "classes_", "n_iter_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(twin, name, copy.copy(getattr(self, name)))
        return twin

    @classmethod
    def _from_model(
        cls,
        model: LinearModel,
        *,
        labels: Sequence[Any] | None = None,
        feature_names: Sequence[str] | None = None,
        outcome: Outcome = UNKNOWN,
        **parameters: Any,
    ) -> Self:
        """Return the fitted estimator of a model; see `estimator_from_model`. Local."""
        if model.kind != cls._kind:
            raise SpecError(f"{cls.__name__} is no {model.kind}")
        if labels is not None and len(labels) != model.classes.size:
            raise SpecError(f"{len(labels)} labels for the {model.classes.size} classes of the model")
        estimator = cls(**parameters)
        estimator.n_features_in_ = model.coef.shape[-1]
        if feature_names is not None:
            estimator.feature_names_in_ = np.array(feature_names, object)
        estimator._set_model(model, model.classes if labels is None else np.asarray(labels), outcome)
        return estimator

    def _training_data(
        self, comm: Communicator, X: Any, y: Any, sample_weight: Any, offset: Any
    ) -> tuple[Dataset, NDArray[Any] | None]:
        """Return the rows to learn from, and the classes that y's codes stand for. Collective."""
        if is_dataset(X):
            with agreed(comm):
                check_dataset(X, y, sample_weight, offset)
            self._forget_names()
            self.n_features_in_ = X.n_features
            return X, None
        with validated(comm):
            rows = read_rows(self, X, y, sample_weight, offset, least=int(comm.size == 1), reset=True)
            target = self._read_target(rows)
        check_same(comm, {"the names of features": feature_digest(self)})
        numbers, classes = self._agree_on_target(comm, target)
        return ArrayDataset(rows.X, numbers, rows.weight, rows.offset, comm=comm), classes

    def _solved(
        self, data: Dataset, classes: NDArray[Any] | None, *, checked: bool
    ) -> tuple[LinearModel, Result]:
        """Return the model and how it was found; `checked` says that X is known to be finite. Collective."""
        found = survey(data, classes=self._kind in CLASSIFIERS, names=_NAMES, finite=checked, digest=False)
        self._check_classes(found.classes)
        settings = self._settings(found, classes)
        target = look_at_target(data, make_loss(self._kind, found.classes, settings.power))
        objective, asked = make_objective(data, settings, found, target=target)
        solver = self._chosen_solver(objective)
        rules = Rules(self.max_iter, self.tol)
        w = self._last_w(objective)
        warm = warm_start(objective, solver, rules) if w is None else None
        result = run_solver(objective, solver, rules, w=w, loop=warm.loop if warm else None)
        return make_model(objective, result.w, settings, found.classes, asked), result

    def _chosen_solver(self, objective: Objective) -> Solver:
        """Return the solver of the parameters. Local."""
        return choose_solver(self.solver, objective, self.memory)[0]

    def _last_w(self, objective: Objective) -> NDArray[np.float64] | None:
        """Return where the last fit ended, if the next is to start there. Collective, if so."""
        if not self.warm_start:
            return None
        coef, intercept = (np.atleast_1d(getattr(self, name, ())) for name in ("coef_", "intercept_"))
        bits = np.append(coef, intercept).tobytes() if coef.size else b"none"
        check_same(objective.data.comm, {"coefficients to start from": hashlib.sha256(bits).hexdigest()})
        if coef.size == 0:
            return None
        n, k = objective.data.n_features, objective.loss.n_outputs
        if coef.shape[-1] != n:
            raise DataError(f"warm_start: X has {n} features, and the last fit had {coef.shape[-1]}")
        if intercept.size != k:
            raise DataError(
                f"warm_start: the last fit had {intercept.size} row(s) of coefficients, and y takes {k}"
            )
        if k > 1:
            return objective.from_raw(coef.astype(np.float64), intercept)
        return objective.from_raw(coef.ravel().astype(np.float64), float(intercept[0]))

    def _not_converged(self) -> str:
        return (
            f"{type(self).__name__} did not converge in {int(np.max(self.n_iter_))} iterations: "
            f"{self.reason_}; the certificate is {self.certificate_:.3g}, tol is {self.tol:g}. "
            "Increase max_iter, try another solver, or ask for a larger tol."
        )

    def _set_outcome(self, outcome: Outcome) -> None:
        self.n_iter_: Any = outcome.n_iter
        self.objective_ = outcome.objective
        self.certificate_ = outcome.certificate
        self.converged_ = outcome.converged
        self.reason_ = outcome.reason

    def _raw_prediction(self, X: Any) -> NDArray[np.float64]:
        """Return ``X @ coef.T + intercept`` of my rows, with the offsets of a data set. Local."""
        check_is_fitted(self)
        if is_dataset(X):
            self._check_width(X)
            model = self._model()
            parts = [raw_prediction(block, model.coef, model.intercept) for block in X.blocks()]
            return np.concatenate([np.zeros((0, *np.shape(model.intercept))), *parts])
        # scikit-learn's own product, so that its twin gives the same bits.
        z = np.asarray(read_matrix(self, X) @ self.coef_.T + self.intercept_)
        return z if np.size(self.intercept_) > 1 else z.reshape(-1)

    def _scored_data(
        self, X: Any, y: Any, sample_weight: Any, offset: Any = None
    ) -> tuple[Dataset, LinearModel]:
        """Return the rows to score on, and the model whose classes are their labels. Collective."""
        check_is_fitted(self)
        comm = find_comm(self.comm, X)
        if is_dataset(X):
            with agreed(comm):
                check_dataset(X, y, sample_weight, offset)
                self._check_width(X)
                return X, self._model()._replace(classes=self._numeric_classes())
        with validated(comm):
            rows = read_rows(self, X, y, sample_weight, offset, least=int(comm.size == 1), reset=False)
            numbers = self._known_target(rows)
        return ArrayDataset(rows.X, numbers, rows.weight, rows.offset, comm=comm), self._model()

    def _numeric_classes(self) -> NDArray[np.float64]:
        """Return the labels that a data set, whose y are numbers, has for the classes. Local."""
        return np.zeros(0)

    def _read_target(self, rows: Rows) -> Any:
        """Return what this rank knows of y. Local; raises what scikit-learn raises."""
        return rows.y

    def _agree_on_target(self, comm: Communicator, target: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return y as numbers, and the classes if they are codes. Collective for a classifier."""
        return target, None

    def _known_target(self, rows: Rows) -> NDArray[Any]:
        """Return y as numbers by what was fitted. Local."""
        return rows.y

    def _check_classes(self, classes: NDArray[np.float64]) -> None:
        """Refuse a number of classes that the model cannot do. Local."""

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        """Return the model's settings from scikit-learn's parameters. Local."""
        raise NotImplementedError

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        """Set the fitted attributes. Local."""
        raise NotImplementedError

    def _model(self) -> LinearModel:
        """Return the fitted model back from the attributes. Local."""
        raise NotImplementedError

    def _make_twin(self) -> Any:
        """Return scikit-learn's unfitted estimator of the same objective. Local."""
        raise NotImplementedError
