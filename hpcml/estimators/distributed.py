"""What every estimator does with its communicator, its parameters and the rows that it is given."""

from __future__ import annotations

import copy
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import InvalidParameterError

from hpcml.collectives import Communicator, agreed
from hpcml.data import ArrayDataset, Dataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators.inputs import (
    check_same,
    feature_digest,
    is_dataset,
    read_points,
    refuse_beside,
    validated,
)

__all__ = ["DistributedEstimator"]


class DistributedEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator of scikit-learn's conventions whose rows are shared by the ranks of `comm`."""

    comm: Communicator | str | None

    def _check_parameters(self, comm: Communicator) -> None:
        """Refuse wrong parameters, and ranks that differ in them. Collective, three small messages."""
        with agreed(comm):
            try:
                self._validate_params()
            except InvalidParameterError as error:
                raise SpecError(str(error)) from None
        parameters = self.get_params(deep=False)
        check_same(comm, {name: str(value) for name, value in parameters.items() if name != "comm"})

    def _forget_names(self) -> None:
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_width(self, data: Dataset) -> None:
        if data.n_features != self.n_features_in_:
            raise DataError(
                f"X has {data.n_features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )

    def _weighted_points(self, comm: Communicator, X: Any, sample_weight: Any, *, reset: bool) -> Dataset:
        """Return rows as a data set; `reset` learns the features, else they are compared. Collective."""
        if is_dataset(X):
            with agreed(comm):
                refuse_beside(sample_weight=sample_weight)
                if not reset:
                    self._check_width(X)
            if reset:
                self._forget_names()
                self.n_features_in_ = X.n_features
            data: Dataset = X
            return data
        with validated(comm):
            rows, weight = read_points(self, X, sample_weight, least=int(comm.size == 1), reset=reset)
        if reset:
            check_same(comm, {"the names of features": feature_digest(self)})
        return ArrayDataset(rows, None, weight, comm=comm)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without a communicator: ranks do not outlive their process."""
        state: dict[str, Any] = dict(super().__getstate__())
        if not isinstance(state.get("comm"), str):
            state["comm"] = None
        return state

    def __sklearn_clone__(self) -> Self:
        """Return a clone that shares the communicator, which cannot be copied."""
        bare = copy.copy(self)
        clone: Self = super(DistributedEstimator, bare).__sklearn_clone__()
        clone.comm = self.comm
        return clone

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
