"""The largest singular vectors with scikit-learn's names."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD as Twin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.decomposition.choice import METHODS
from hpcml.algorithms.decomposition.decompose import Decomposition, DecompositionSettings, decompose
from hpcml.collectives import Communicator
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.decomposer import DecompositionEstimator
from hpcml.estimators.inputs import find_comm

__all__ = ["TruncatedSVD"]


class TruncatedSVD(DecompositionEstimator):
    """The largest singular values and right singular vectors of the rows of all ranks, which are not centred.

    The answer has the same bits for any number of ranks and any split of the rows. Rows of a CSR matrix are
    never made dense by "randomized", nor by "gram".

    Parameters
    ----------
    n_components : int, default=2
        More than the rank of X is an error that says the rank.
    algorithm : {"auto", "randomized", "gram", "tsqr"}, default="auto"
        See PCA's `svd_solver`.
    n_iter : int or "auto", default="auto"
        Power iterations of "randomized"; each is one pass. "auto" stops when the values have settled.
    n_oversamples : int, default=10
        Of "randomized".
    random_state : int or None, default=None
        Key of "randomized"; None is 0.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X is this rank's rows, in rank order.

    Attributes
    ----------
    components_ : (n_components, n_features) array
        The element of largest size of each is positive, the first of equals.
    explained_variance_, explained_variance_ratio_, singular_values_ : (n_components,) array
        The variance of the transformed rows, and its share of the variance of X.
    solver_, solver_reason_ : str
        How the components were found, and why so.
    n_iter_ : int
        Passes of "randomized" before the last.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from hpcml.estimators import TruncatedSVD
    >>> X = csr_array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    >>> TruncatedSVD(2).fit(X).singular_values_.round(9).tolist()
    [3.0, 2.0]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions({"auto", *METHODS})],
        "n_iter": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "n_oversamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        algorithm: str = "auto",
        n_iter: int | str = "auto",
        n_oversamples: int = 10,
        random_state: int | None = None,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.n_oversamples = n_oversamples
        self.random_state = random_state
        self.comm = comm

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the singular vectors of the rows of all ranks. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none. A Dataset brings its communicator.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        SpecError
            A parameter is wrong, or ranks differ in one. A ValueError.
        DataError
            The rows cannot be used, or have fewer components. A ValueError. Both are the same on every rank.
        """
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            model = decompose(self._points(comm, X), self._settings())
        self._set_model(model)
        if comm.rank == 0 and model.warning:
            warnings.warn(model.warning, stacklevel=2)
        return self

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin. Local."""
        check_is_fitted(self)
        twin = Twin(self.n_components)
        for name in _COPIED:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def _settings(self) -> DecompositionSettings:
        return DecompositionSettings(
            int(self.n_components),
            centered=False,
            method=self.algorithm,
            n_iter=None if self.n_iter == "auto" else int(self.n_iter),
            n_oversamples=self.n_oversamples,
            seed=self.random_state or 0,
        )

    def _set_model(self, model: Decomposition) -> None:
        self.components_: NDArray[np.float64] = model.components
        self.explained_variance_ = model.explained_variance
        self.explained_variance_ratio_ = model.explained_variance_ratio
        self.singular_values_ = model.singular_values
        self.solver_, self.solver_reason_, self.n_iter_ = model.method, model.reason, model.n_iter

    def _model(self) -> Decomposition:
        return Decomposition(
            components=self.components_,
            singular_values=self.singular_values_,
            explained_variance=self.explained_variance_,
            explained_variance_ratio=self.explained_variance_ratio_,
            mean=np.zeros(self.n_features_in_),
            noise_variance=0.0,
            n_samples=0,
            centered=False,
        )


_COPIED = (
    "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "n_features_in_",
    "feature_names_in_",
)  # fmt: skip
