"""Mini-batch k-means with scikit-learn's names."""

from __future__ import annotations

import hashlib
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.cluster import MiniBatchKMeans as Twin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from hpcml.algorithms.clustering.kmeans import begin
from hpcml.algorithms.clustering.look import look
from hpcml.algorithms.clustering.metrics import inertia
from hpcml.algorithms.clustering.mini_batch import MiniBatch, MiniBatchState, start_mini_batch, whole_batch
from hpcml.algorithms.clustering.mini_batch_kmeans import MiniBatchSettings, fit_mini_batch
from hpcml.algorithms.clustering.starts import METHODS, Start
from hpcml.algorithms.survey import Names
from hpcml.collectives import Communicator
from hpcml.data import Dataset
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.clusters import ClusterEstimator
from hpcml.estimators.inputs import assumes_finite, check_same, find_comm, is_dataset

__all__ = ["MiniBatchKMeans"]

_NAMES = Names(weight="sample_weight")


class MiniBatchKMeans(ClusterEstimator):
    """k-means by mini-batches of the rows of all ranks: each centre is the mean of what chose it lately.

    A batch takes its share from all over the data by a permutation keyed by `random_state`, and is one
    message of ``k (d + 1) + 1`` sums; every row is in one batch of an epoch. The answer has the same bits for
    any number of ranks and any split of the rows. `fit` remembers about a quarter of the rows, at least 1,000
    for each centre, so that it goes on to improve after the first epoch; `partial_fit` forgets nothing, as
    scikit-learn's.

    Parameters
    ----------
    n_clusters : int, default=8
        k.
    init : {"k-means++", "k-means||", "random"} or (k, n_features) array, default="k-means++"
        Where to start, as of KMeans: "k-means++" is over a sample of 4,096 rows, or 32 k if that is more.
    max_iter : int, default=100
        Epochs.
    batch_size : int or None, default=None
        Rows of a batch over all ranks; None is a 64th of all, at least 32.
    compute_labels : bool, default=True
        Set labels_ at the end of `fit`.
    random_state : int or None, default=None
        Key of the draws; None is 0.
    tol : float, default=0.0
        The walk ends where a batch moved all centres together by a squared distance of at most `tol` times
        the mean variance of the columns; 0 is never.
    max_no_improvement : int or None, default=10
        The walk ends where the smoothed inertia had no new minimum for that many batches; None is never.
    n_init : int or "auto", default="auto"
        Starts, of which the one of the least inertia is taken. "auto" is 1.
    reassignment_ratio : float, default=0.01
        A centre that fewer rows chose than this share of the fullest one's moves to a row of the batch that
        is drawn by its distance.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X is this rank's rows, in rank order.

    Attributes
    ----------
    cluster_centers_ : (k, n_features) array
    labels_ : (my rows,) array of int32
        The nearest of these centres, the first of equally near ones; of the rows given to `fit` or to the
        last `partial_fit`.
    inertia_ : float
        At these centres, over the rows of all ranks in `fit` or the last `partial_fit`, with weights.
    n_iter_ : int
        Epochs.
    n_steps_ : int
        Batches.
    converged_ : bool
        Whether centres or inertia stood still.
    reason_ : str
        Why the fit ended.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from hpcml.estimators import MiniBatchKMeans
    >>> X = [[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]]
    >>> model = MiniBatchKMeans(2).fit(X)
    >>> sorted(model.cluster_centers_.tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _walk: MiniBatchState
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(METHODS)), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "compute_labels": ["boolean"],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_no_improvement": [Interval(Integral, 1, None, closed="left"), None],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int | None = None,
        compute_labels: bool = True,
        random_state: int | None = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        n_init: int | str = "auto",
        reassignment_ratio: float = 0.01,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.comm = comm

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find centres for the rows of all ranks. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none. A Dataset brings its communicator and weights.
        y : ignored
        sample_weight : (my rows,) array, optional
            Not with a Dataset. Scales what a row adds to sums and counts. A row of weight 2 is in one batch,
            so that it need not give what two rows give.

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
            settings = MiniBatchSettings(self._start(), self._method(), self.tol)
            result = fit_mini_batch(data, settings, centers=centers, names=_NAMES, finite=_is_finite(X))
        self.n_iter_, self.converged_, self.reason_ = result.n_epochs, result.converged, result.reason
        self._set_walk(result.loop, result.inertia)
        if self.compute_labels:
            self.labels_ = self.predict(X)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take the rows of all ranks as one batch, on from where the last call or `fit` ended. Collective.

        The first call finds the start in its rows, which must be as many as clusters. Parameters and errors
        as of `fit`.
        """
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            data, walk = self._next(comm, X, sample_weight)
            walk = self._method().step(whole_batch(data), walk)
            at_end = inertia(data, walk.centers)
        self.n_iter_, self.converged_, self.reason_ = 1, False, "partial_fit takes one batch"
        self._set_walk(walk, at_end)
        self.labels_ = self.predict(X)
        return self

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin: another object of the same centres. Local."""
        check_is_fitted(self)
        twin = Twin(self.n_clusters, init=self.cluster_centers_, n_init=1, max_iter=self.max_iter)
        twin._n_threads = 1
        for name in ("cluster_centers_", "labels_", "inertia_", "n_iter_", "n_steps_", "n_features_in_"):
            if hasattr(self, name):
                setattr(twin, name, np.copy(getattr(self, name))[()])
        if hasattr(self, "feature_names_in_"):
            twin.feature_names_in_ = self.feature_names_in_
        return twin

    def _next(self, comm: Communicator, X: Any, sample_weight: Any) -> tuple[Dataset, MiniBatchState]:
        """Return the rows of a batch, checked, and the state before it. Collective."""
        if not hasattr(self, "cluster_centers_"):
            centers = self._given_centers(comm)
            data = self._weighted_points(comm, X, sample_weight, reset=True)
            _, starts = begin(data, self._start(), centers, _NAMES, finite=_is_finite(X))
            return data, start_mini_batch(starts[0])
        data = self._weighted_points(comm, X, sample_weight, reset=False)
        look(data, _NAMES, finite=_is_finite(X))
        bits = np.append(self._walk.centers, self._walk.counts).tobytes()
        check_same(comm, {"centres to go on from": hashlib.sha256(bits).hexdigest()})
        return data, self._walk

    def _set_walk(self, walk: MiniBatchState, at_end: float) -> None:
        self._walk, self.n_steps_ = walk, walk.n_iter
        self.cluster_centers_, self.inertia_ = walk.centers.copy(), at_end

    def _start(self) -> Start:
        method = self.init if isinstance(self.init, str) else METHODS[0]
        n_init = 1 if self.n_init == "auto" else int(self.n_init)
        return Start(self.n_clusters, method, n_init, self.random_state or 0)

    def _method(self) -> MiniBatch:
        return MiniBatch(
            self.batch_size,
            self.max_iter,
            self.max_no_improvement,
            float(self.reassignment_ratio),
            self.random_state or 0,
        )


def _is_finite(X: Any) -> bool:
    """Tell whether the rows were looked through. Local."""
    return not (is_dataset(X) or assumes_finite())
