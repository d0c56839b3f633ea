"""Covariances and correlations of the features over the rows of all ranks."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance as Twin
from sklearn.covariance import log_likelihood
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.statistics import Pair, Summary, summarize
from hpcml.algorithms.survey import Names, survey
from hpcml.collectives import Communicator
from hpcml.data import Dataset
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.distributed import DistributedEstimator
from hpcml.estimators.inputs import assumes_finite, find_comm, is_dataset

__all__ = ["EmpiricalCovariance"]


class EmpiricalCovariance(DistributedEstimator, Twin):  # type: ignore[misc]  # scikit-learn has no types
    """``sum_i s_i (x_i - m) (x_i - m)^T / sum s`` with the mean m, over the rows of all ranks.

    Each shard's sums are about a centre of its own: a column of mean 1e8 and deviation 1 keeps its digits.
    The answer has the same bits for any number of ranks and any split of the rows. At most 4,096 features.

    Parameters
    ----------
    store_precision : bool, default=True
        Keep the pseudo-inverse of the covariance, too.
    assume_centered : bool, default=False
        Take m to be 0.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X is this rank's rows, in rank order.

    Attributes
    ----------
    covariance_ : (n_features, n_features) array
    location_ : (n_features,) array
        The mean, or zeros.
    precision_ : (n_features, n_features) array
        Where it is stored.
    correlation_ : (n_features, n_features) array
        Of the features about their means; NaN for a constant one.
    most_correlated_ : Pair or None
        (first, second, correlation) of the two features with the largest ``|correlation|``, the first of
        equal ones; None where no two vary.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hpcml.estimators import EmpiricalCovariance
    >>> pair = EmpiricalCovariance().fit(load_iris().data).most_correlated_
    >>> pair.first, pair.second, round(pair.correlation, 3)
    (2, 3, 0.963)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "store_precision": ["boolean"],
        "assume_centered": ["boolean"],
    }

    def __init__(
        self,
        *,
        store_precision: bool = True,
        assume_centered: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.store_precision = store_precision
        self.assume_centered = assume_centered
        self.comm = comm

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Sum over the rows of all ranks. Collective: two passes; the messages of `survey` and `summarize`.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none. A Dataset brings its communicator and weights.
        y : ignored
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
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            found = _summary(X, self._weighted_points(comm, X, sample_weight, reset=True))
            mean = found.features.mean
            self.location_ = np.zeros_like(mean) if self.assume_centered else mean
            self._set_covariance(_about(found, self.location_))
        self.correlation_: NDArray[np.float64] = np.asarray(found.correlation)
        self.most_correlated_: Pair | None = found.most_correlated
        return self

    def score(self, X_test: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-likelihood of the rows of all ranks under the normal law of the fit.

        Collective: two passes, and the messages of `survey` and `summarize`.

        Parameters
        ----------
        X_test : {array, CSR, table} of shape (my rows, n_features), or Dataset
        y : ignored
        sample_weight : (my rows,) array, optional
            Not with a Dataset.
        """
        check_is_fitted(self)
        comm = find_comm(self.comm, X_test)
        with one_blas_thread():
            found = _summary(X_test, self._weighted_points(comm, X_test, sample_weight, reset=False))
            return float(log_likelihood(_about(found, self.location_), self.get_precision()))


def _summary(X: Any, data: Dataset) -> Summary:
    """Return means and covariances of rows that are fit for them. Collective, two passes."""
    finite = not (is_dataset(X) or assumes_finite())
    survey(data, classes=False, names=Names(weight="sample_weight"), finite=finite, digest=False)
    return summarize(data, correlations=True)


def _about(found: Summary, location: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance about any point. Local."""
    apart = found.features.mean - location
    return np.asarray(found.covariance) + np.outer(apart, apart)
