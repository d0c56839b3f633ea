"""What the classifiers share: labels of any type, their weights, and predictions of classes."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from hpcml.algorithms.class_weight import ClassWeight
from hpcml.algorithms.linear_model import LinearModel, ModelSettings
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.errors import DataError, SpecError
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.inputs import Rows
from hpcml.estimators.labels import Labels, agree_on_classes, check_classes, find_labels
from hpcml.estimators.scoring import accuracy

__all__ = ["LinearClassifier"]


class LinearClassifier(ClassifierMixin, LinearEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear classifier of two classes, or of as many as `_most_classes` where that is more."""

    _most_classes: ClassVar[int] = 2

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearEstimator._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="right")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    C: float
    class_weight: Mapping[Any, float] | str | None

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``X @ coef.T + intercept`` of my rows, (my rows,). Local.

        With more than two classes (my rows, n_classes).
        """
        return self._raw_prediction(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likelier class of each of my rows, (my rows,). Local."""
        z = self.decision_function(X)
        chosen: NDArray[Any] = self.classes_[np.argmax(z, axis=1) if z.ndim == 2 else (z > 0).astype(int)]
        return chosen

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of rows of all ranks whose class is predicted, weighted. Collective.

        X, y and sample_weight are as in `fit`; the result is the same on every rank.
        """
        with one_blas_thread():
            return accuracy(*self._scored_data(X, y, sample_weight))

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        names = found.classes if classes is None else classes
        weight = self._class_weight(dict(zip(names.tolist(), found.classes.tolist(), strict=True)))
        return ModelSettings(self._kind, C=self.C, fit_intercept=self.fit_intercept, class_weight=weight)

    def _class_weight(self, codes: Mapping[Any, float]) -> ClassWeight | None:
        """Return the weights by the numbers that stand for classes. Local.

        Raises
        ------
        SpecError
            As scikit-learn has it: a key is no class while a class has no weight.
        """
        wanted = self.class_weight
        if wanted is None or isinstance(wanted, str):
            return wanted
        missing = [label for label in codes if label not in wanted]
        if missing and len(codes) - len(missing) != len(wanted):
            raise SpecError(f"The classes, {missing}, are not in class_weight")
        return {code: float(wanted[label]) for label, code in codes.items() if label in wanted}

    def _read_target(self, rows: Rows) -> Labels:
        return find_labels(rows.y, rows.weight)

    def _agree_on_target(self, comm: Communicator, target: Labels) -> tuple[NDArray[Any], NDArray[Any]]:
        classes = agree_on_classes(comm, target, self._most_classes)
        # Labels that are not classes have weight zero: any code does.
        codes = target.codes(classes)
        return np.maximum(codes, 0.0, out=codes), classes

    def _known_target(self, rows: Rows) -> NDArray[Any]:
        return find_labels(rows.y, None).codes(self.classes_)

    def _check_classes(self, classes: NDArray[np.float64]) -> None:
        check_classes(classes.tolist(), self._most_classes)

    def _numeric_classes(self) -> NDArray[np.float64]:
        if self.classes_.dtype.kind not in "biuf":
            raise DataError(f"a data set's y are numbers, but the classes are {self.classes_.tolist()}")
        return self.classes_.astype(np.float64)

    def _set_model(self, model: LinearModel, classes: NDArray[Any], outcome: Outcome) -> None:
        self._set_outcome(outcome)
        self.coef_ = np.atleast_2d(model.coef).copy()
        self.intercept_ = np.atleast_1d(np.array(model.intercept))
        self.classes_ = classes
        self.n_iter_ = np.array([outcome.n_iter], np.int32)

    def _model(self) -> LinearModel:
        none, ones = np.zeros(self.n_features_in_), np.ones(self.n_features_in_)
        codes = np.arange(float(len(self.classes_)))
        if len(codes) > 2:
            return LinearModel(self._kind, self.coef_, self.intercept_, codes, none, ones)
        intercept = float(np.ravel(self.intercept_)[0])
        return LinearModel(self._kind, self.coef_[0], intercept, codes, none, ones)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self._most_classes > 2
        return tags
