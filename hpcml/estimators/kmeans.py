"""k-means with scikit-learn's names."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans as Twin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.clustering.choice import ALGORITHMS
from hpcml.algorithms.clustering.kmeans import KMeansSettings, fit_kmeans, too_few_distinct
from hpcml.algorithms.clustering.starts import METHODS, Start
from hpcml.collectives import Communicator
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.clusters import ClusterEstimator
from hpcml.estimators.inputs import assumes_finite, find_comm, is_dataset

__all__ = ["KMeans"]


class KMeans(ClusterEstimator):
    """k-means over the rows of all ranks: centres c of the least ``sum_i s_i min_j |x_i - c_j|^2``.

    Lloyd's iteration takes a pass and one message of ``k (d + 1) + 1`` sums a start. Distances are taken as
    ``sum_j (x_j - c_j)^2`` in double precision, so a mean far from zero costs no digits, in float32 neither.
    A centre that no row is nearest to moves to the row that is farthest from its own. The answer has the same
    bits for any number of ranks and any split of the rows.

    Parameters
    ----------
    n_clusters : int, default=8
        k.
    init : {"k-means||", "k-means++", "random"} or (k, n_features) array, default="k-means||"
        Where to start. "k-means||": k-means++ over weighted candidates that a few passes choose; "k-means++"
        over a sample of 4,096 rows, or 32 k if that is more; "random": rows drawn by weight; or given
        centres, the same on every rank.
    n_init : int or "auto", default="auto"
        Starts, all in the same passes; the one of the least inertia is kept. "auto" is 1.
    max_iter : int, default=300
    tol : float, default=1e-4
        The iteration ends when all centres together moved by a squared distance of at most `tol` times the
        mean variance of the columns: it is a share of a variance, not of a length, and 0 asks that no row
        change its centre. As in scikit-learn.
    random_state : int or None, default=None
        Key of the draws; None is 0.
    algorithm : {"auto", "lloyd", "bounds"}, default="auto"
        "lloyd" compares each row with all centres in each pass, "bounds" with those that may be nearer: 8 to
        132 bytes a row are kept for that. The answer has the same bits. "auto" is "bounds" where that takes
        no more than 2 GiB a rank.
    oversampling_factor : float, default=2.0
        Of k-means||: candidates of a round over k.
    init_rounds : int, default=2
        Of k-means||.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X is this rank's rows, in rank order.

    Attributes
    ----------
    cluster_centers_ : (k, n_features) array
    labels_ : (my rows,) array of int32
        The nearest of these centres, the first of equally near ones; of the rows given to `fit`.
    inertia_ : float
        At these centres, over the rows of all ranks, with weights.
    n_iter_ : int
    converged_ : bool
        Whether the centres moved by no more than tol allows.
    reason_ : str
        Why the fit ended.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from hpcml.estimators import KMeans
    >>> X = [[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]]
    >>> model = KMeans(2).fit(X)
    >>> sorted(model.cluster_centers_.tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(METHODS)), "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "oversampling_factor": [Interval(Real, 0, None, closed="neither")],
        "init_rounds": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means||",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | None = None,
        algorithm: str = "auto",
        oversampling_factor: float = 2.0,
        init_rounds: int = 2,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.algorithm = algorithm
        self.oversampling_factor = oversampling_factor
        self.init_rounds = init_rounds
        self.comm = comm

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find centres for the rows of all ranks. Collective.

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
        centers = self._given_centers(comm)
        with one_blas_thread():
            data = self._weighted_points(comm, X, sample_weight, reset=True)
            finite = not (is_dataset(X) or assumes_finite())
            result = fit_kmeans(data, self._settings(centers), centers=centers, finite=finite)
        self.cluster_centers_ = result.centers
        self.inertia_, self.n_iter_ = result.inertia, result.n_iter
        self.converged_, self.reason_ = result.converged, result.reason
        self.labels_ = self.predict(X)
        trouble = too_few_distinct(result) if result.converged else self._not_converged()
        if comm.rank == 0 and trouble:
            warnings.warn(trouble, ConvergenceWarning, stacklevel=2)
        return self

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin: another object of the same centres. Local."""
        check_is_fitted(self)
        twin = Twin(self.n_clusters, init=self.cluster_centers_, n_init=1, max_iter=self.max_iter)
        twin.set_params(tol=self.tol)
        twin._n_threads = 1
        for name in ("cluster_centers_", "labels_"):
            setattr(twin, name, getattr(self, name).copy())
        for name in ("inertia_", "n_iter_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def _settings(self, centers: NDArray[np.float64] | None) -> KMeansSettings:
        method = METHODS[0] if centers is not None else self.init
        n_init = 1 if self.n_init == "auto" else int(self.n_init)
        seed = self.random_state or 0
        start = Start(self.n_clusters, method, n_init, seed, self.oversampling_factor, self.init_rounds)
        return KMeansSettings(start, self.max_iter, self.tol, algorithm=self.algorithm)

    def _not_converged(self) -> str:
        return (
            f"KMeans did not converge in {self.n_iter_} iterations: {self.reason_}; increase max_iter or tol"
        )
