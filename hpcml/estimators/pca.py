"""Principal components with scikit-learn's names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA as Twin
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.decomposition.choice import ALIASES, METHODS
from hpcml.algorithms.decomposition.decompose import Decomposition, DecompositionSettings, decompose
from hpcml.algorithms.decomposition.projection import log_likelihoods, make_density
from hpcml.algorithms.kernels.rows import pieces
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.collectives import Communicator
from hpcml.data import Block
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.decomposer import PrincipalComponents
from hpcml.estimators.inputs import find_comm, read_matrix

__all__ = ["PCA"]


class PCA(PrincipalComponents):
    """Principal components of the rows of all ranks.

    The answer has the same bits for any number of ranks and any split of the rows. Rows of a CSR matrix stay
    sparse. A Dataset may bring weights: a row of weight 2 counts as two.

    Parameters
    ----------
    n_components : int, float, "mle" or None, default=None
        A number; in (0, 1) the share of the variance to hold; by Minka's rule; or as many as there are rows
        or columns. More than the rank of X less its mean is an error that says the rank.
    whiten : bool, default=False
        Give coordinates of variance 1.
    svd_solver : {"auto", "gram", "tsqr", "randomized", "covariance_eigh", "full"}, default="auto"
        "gram", or "covariance_eigh": products of all columns, one pass; small variances lose digits, and a
        warning says how many are left. "tsqr", or "full": QR factorisations in a tree, one pass, as exact as
        X itself. "randomized": a few passes, for many columns and few components. "auto" chooses by shape,
        says why in `solver_reason_`, and adds "tsqr" where "gram" left too few digits.
    iterated_power : int or "auto", default="auto"
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
    components_ : (n_components_, n_features) array
        The element of largest size of each is positive, the first of equals.
    explained_variance_, explained_variance_ratio_, singular_values_ : (n_components_,) array
    mean_ : (n_features,) array
    n_components_, n_samples_ : int
    noise_variance_ : float
        Mean variance of the components left out.
    solver_, solver_reason_ : str
        How the components were found, and why so.
    n_iter_ : int
        Passes of "randomized" before the last.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from hpcml.estimators import PCA
    >>> X = [[-1.0, -1.0], [-2.0, -1.0], [-3.0, -2.0], [1.0, 1.0], [2.0, 1.0], [3.0, 2.0]]
    >>> PCA(2).fit(X).explained_variance_ratio_.round(4).tolist()
    [0.9924, 0.0076]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"mle"}),
            None,
        ],
        "whiten": ["boolean"],
        "svd_solver": [StrOptions({"auto", *METHODS, *ALIASES})],
        "iterated_power": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "n_oversamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components: int | float | str | None = None,
        *,
        whiten: bool = False,
        svd_solver: str = "auto",
        iterated_power: int | str = "auto",
        n_oversamples: int = 10,
        random_state: int | None = None,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.random_state = random_state
        self.comm = comm

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components of the rows of all ranks. Collective.

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

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of the rows of all ranks. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        y : ignored
        """
        check_is_fitted(self)
        density = make_density(self._model())

        def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
            parts = [log_likelihoods(density, piece.X) for piece in pieces(block)]
            found = np.concatenate([np.zeros(0), *parts])
            yield block.shard_sums(np.stack([found, np.ones(block.n_rows)], axis=1) * block.weights[:, None])

        with one_blas_thread():
            data = self._points(find_comm(self.comm, X), X, reset=False)
            total, weight = reduce_blocks(data, statistics, 2).total
        return float(total / weight)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the log-likelihood of each of my rows, (my rows,). Local.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features)
        """
        check_is_fitted(self)
        return log_likelihoods(make_density(self._model()), read_matrix(self, X))

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin. Local."""
        check_is_fitted(self)
        twin = Twin(self.n_components, whiten=self.whiten)
        for name in _COPIED:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def _settings(self) -> DecompositionSettings:
        n_iter = None if self.iterated_power == "auto" else int(self.iterated_power)
        return DecompositionSettings(
            self.n_components,
            method=self.svd_solver,
            n_iter=n_iter,
            n_oversamples=self.n_oversamples,
            seed=self.random_state or 0,
        )

    def _set_model(self, model: Decomposition) -> None:
        self.components_ = model.components
        self.explained_variance_ = model.explained_variance
        self.explained_variance_ratio_ = model.explained_variance_ratio
        self.singular_values_ = model.singular_values
        self.mean_, self.noise_variance_ = model.mean, model.noise_variance
        self.n_components_, self.n_samples_ = len(model.components), model.n_samples
        self.solver_, self.solver_reason_, self.n_iter_ = model.method, model.reason, model.n_iter

    def _model(self) -> Decomposition:
        return Decomposition(
            components=self.components_,
            singular_values=self.singular_values_,
            explained_variance=self.explained_variance_,
            explained_variance_ratio=self.explained_variance_ratio_,
            mean=self.mean_,
            noise_variance=self.noise_variance_,
            n_samples=self.n_samples_,
        )


_COPIED = (
    "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_",
    "n_components_", "n_samples_", "noise_variance_", "n_features_in_", "feature_names_in_",
)  # fmt: skip
