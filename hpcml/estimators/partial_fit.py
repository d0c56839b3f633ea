"""Fits by mini-batches: whole fits, and single passes over rows that come in turns."""

from __future__ import annotations

import hashlib
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from hpcml.algorithms.averaged_sgd import AveragedSGD
from hpcml.algorithms.choice import choose_solver
from hpcml.algorithms.linear_model import LinearModel, ModelSettings, make_objective
from hpcml.algorithms.losses.base import Intercept
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.sgd import SGD
from hpcml.algorithms.solver import Result, Solver
from hpcml.algorithms.survey import Names, Survey, survey
from hpcml.collectives import Communicator
from hpcml.data import Dataset
from hpcml.errors import DataError, SpecError, shared
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.inputs import check_same, feature_digest, find_comm, is_dataset, read_rows, validated

__all__ = ["PartialFit"]

_ONE_PASS = "a pass of partial_fit proves nothing"


class _Place(NamedTuple):
    """Where a walk over rows that come in turns stands, on the original features."""

    w: tuple[NDArray[np.float64], Intercept]
    average: tuple[NDArray[np.float64], Intercept]
    n_steps: int
    n_calls: int


class PartialFit(LinearEstimator):
    """What SGDClassifier and SGDRegressor share. Subclasses say the losses by scikit-learn's names."""

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float
    random_state: int | None
    eta0: float
    batch_size: int | None
    average: bool
    _place: _Place | None
    _kinds: ClassVar[dict[str, str]]
    _refused: ClassVar[dict[str, str]]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{
            name: LinearEstimator._parameter_constraints[name]
            for name in ("fit_intercept", "max_iter", "tol", "warm_start")
        },
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "average": ["boolean"],
    }

    @property
    def _kind(self) -> str:  # type: ignore[override]  # of the object here: the loss is a parameter
        """The kind of model of the loss. Local."""
        return self._kinds[self.loss]

    def _check_parameters(self, comm: Communicator) -> None:
        if self.loss in self._refused:
            raise shared(SpecError(f"loss={self.loss!r} {self._refused[self.loss]}"))
        super()._check_parameters(comm)

    def _chosen_solver(self, objective: Objective) -> Solver:
        kind = AveragedSGD if self.average else SGD
        given = kind(self.batch_size, float(self.eta0), self.random_state or 0)
        return choose_solver("sgd", objective, given=given)[0]

    def _solved(
        self, data: Dataset, classes: NDArray[Any] | None, *, checked: bool
    ) -> tuple[LinearModel, Result]:
        model, result = super()._solved(data, classes, checked=checked)
        self.t_ = 1.0 + result.n_iter * data.n_samples
        self._place = None
        return model, result

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        ratios = {"l1": 1.0, "elasticnet": self.l1_ratio}
        return ModelSettings(
            self._kind,
            alpha=0.0 if self.penalty is None else self.alpha,
            l1_ratio=ratios.get(self.penalty or "", 0.0),
            fit_intercept=self.fit_intercept,
        )

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: NDArray[Any]) -> Self:
        """Walk once over the rows of all ranks, on from where the last call ended. Collective."""
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            if not hasattr(self, "coef_"):
                self._begin(comm, X, y, sample_weight, classes)
            data, model = self._scored_data(X, y, sample_weight)
            self._pass_over(data, model)
        return self

    def _begin(self, comm: Communicator, X: Any, y: Any, sample_weight: Any, classes: NDArray[Any]) -> None:
        """Set a model of zeros, and what later rows must be like. Collective."""
        if is_dataset(X):
            self._forget_names()
            self.n_features_in_ = X.n_features
        else:
            with validated(comm):
                read_rows(self, X, y, sample_weight, least=int(comm.size == 1), reset=True)
            check_same(comm, {"the names of features": feature_digest(self)})
        d = self.n_features_in_
        nothing = LinearModel(self._kind, np.zeros(d), 0.0, classes, np.zeros(d), np.ones(d))
        self.t_, self._place = 1.0, None
        self._set_model(nothing, classes, Outcome(reason=_ONE_PASS))

    def _pass_over(self, data: Dataset, model: LinearModel) -> None:
        """Walk once over the rows. Collective."""
        names = Names(weight="sample_weight")
        found = survey(data, classes=bool(model.classes.size), names=names, digest=False)
        if np.setdiff1d(found.classes, model.classes).size:
            raise shared(DataError("y has labels that are not in classes, which the first call gave"))
        found = found._replace(classes=model.classes)
        objective, _ = make_objective(data, self._settings(found, self._labels()), found)
        solver = AveragedSGD(self.batch_size, float(self.eta0), self.random_state or 0)
        before = self._last_place(data.comm)
        fresh = solver.start(objective, objective.from_raw(*before.w))
        average = objective.from_raw(*before.average)
        start = fresh._replace(average=average, n_steps=before.n_steps, epoch=before.n_calls)
        walk = solver.walked(objective, start)
        self._place = _Place(
            objective.to_raw(walk.w), objective.to_raw(walk.average), walk.n_steps, walk.epoch
        )
        coef, intercept = self._place.average if self.average else self._place.w
        self._set_model(
            model._replace(coef=coef, intercept=intercept), self._labels(), Outcome(1, reason=_ONE_PASS)
        )
        self.t_ += data.n_samples

    def _last_place(self, comm: Communicator) -> _Place:
        """Return where the last call ended, or a fit. Collective, two small messages."""
        found = self._place
        if found is None:
            at = np.ravel(self.coef_), float(np.ravel(self.intercept_)[0])
            found = _Place(at, at, 0, 0)
        bits = [np.append(*at).tobytes() for at in found[:2]]
        digest = hashlib.sha256(b"".join(bits)).hexdigest()
        check_same(comm, {"coefficients to go on from": f"{digest} of {found.n_steps} steps"})
        return found

    def _labels(self) -> NDArray[Any]:
        """Return the classes as the user has them, none for a regression. Local."""
        labels: NDArray[Any] = getattr(self, "classes_", np.zeros(0))
        return labels
