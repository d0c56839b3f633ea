"""Principal components of one batch after another, with scikit-learn's names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval

from hpcml.algorithms.decomposition.decompose import Decomposition
from hpcml.algorithms.decomposition.incremental import Incremental, no_rows, updated
from hpcml.algorithms.decomposition.tsqr import tall_factor
from hpcml.collectives import Communicator
from hpcml.data import Dataset
from hpcml.errors import DataError, SpecError, shared
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.decomposer import PrincipalComponents, checked_points
from hpcml.estimators.inputs import check_same, find_comm, is_dataset

__all__ = ["IncrementalPCA"]


class IncrementalPCA(PrincipalComponents):
    """Principal components that learn from one batch of rows of all ranks after another.

    A batch is reduced to a triangular factor by a tree of QR factorisations, which joins what is known. The
    answer has the same bits for any number of ranks and any split of a batch.

    Parameters
    ----------
    n_components : int or None, default=None
        None takes as many as the first batch has rows or columns.
    whiten : bool, default=False
        Give coordinates of variance 1.
    batch_size : int or None, default=None
        Rows of a batch of `fit`, over all ranks, in order; not for a Dataset. None takes all rows as one:
        a batch is not held in memory, and what batches leave out is not lost.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X is this rank's rows, in rank order.

    Attributes
    ----------
    components_ : (n_components_, n_features) array
        The element of largest size of each is positive, the first of equals.
    explained_variance_, explained_variance_ratio_, singular_values_ : (n_components_,) array
    mean_, var_ : (n_features,) array
    noise_variance_ : float
        Mean variance of the components that the last batch left out.
    n_components_, n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> from hpcml.estimators import IncrementalPCA
    >>> X = [[-1.0, -1.0], [-2.0, -1.0], [-3.0, -2.0], [1.0, 1.0], [2.0, 1.0], [3.0, 2.0]]
    >>> model = IncrementalPCA(1).partial_fit(X[:3]).partial_fit(X[3:])
    >>> model.explained_variance_ratio_.round(4).tolist()
    [0.9922]
    """

    _known: Incremental | None = None
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "whiten": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.comm = comm

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components of the rows of all ranks, whatever was learnt before. Collective.

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
            The rows cannot be used. A ValueError. Both are the same on every rank.
        """
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        self._known = None
        with one_blas_thread():
            if self.batch_size is None:
                self._learn(self._points(comm, X))
            elif is_dataset(X):
                raise shared(SpecError("batch_size is for arrays: a Dataset is one batch; leave it at None"))
            else:
                rows = self._rows(comm, X)
                for mine in _batches(comm, rows.shape[0], self.batch_size, self.n_components or 1):
                    self._learn(checked_points(comm, rows[mine]))
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from one batch, the rows of all ranks, beside those of earlier calls. Collective.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        SpecError
            A parameter is wrong, or ranks differ in one. A ValueError.
        DataError
            The rows cannot be used, or ranks differ in what they learnt. A ValueError. Both are the same on
            every rank.
        """
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        with one_blas_thread():
            self._learn(self._points(comm, X, reset=self._known is None))
        return self

    def _learn(self, data: Dataset) -> None:
        """Take in the rows of a batch. Collective."""
        known = self._known or no_rows(data.n_features)
        bits = known.components.tobytes() + known.mean.tobytes()
        check_same(data.comm, {"components so far": hashlib.sha256(bits).hexdigest()})
        k = self._number(known, data)
        self._set_known(updated(known, tall_factor(data), data.n_samples, k))

    def _number(self, known: Incremental, data: Dataset) -> int:
        """Return how many components to keep. Local; raises alike on every rank."""
        n, d = data.n_samples, data.n_features
        if self.n_components is None:
            return len(known.components) if known.n_rows else min(n, d)
        most = d if known.n_rows else min(n, d)
        if self.n_components > most:
            shape = f"n_samples={n}, n_features={d}"
            sentence = f"n_components={self.n_components} must be at most {most}, as the batch has {shape}"
            raise shared(DataError(sentence))
        return int(self.n_components)

    def _set_known(self, known: Incremental) -> None:
        self._known = known
        freedom, total = max(known.n_rows - 1, 1), float(known.squares.sum())
        squares = np.square(known.singular_values)
        self.components_, self.singular_values_ = known.components, known.singular_values
        self.explained_variance_ = squares / freedom
        self.explained_variance_ratio_ = squares / total if total > 0 else np.zeros_like(squares)
        self.mean_, self.var_ = known.mean, known.squares / known.n_rows
        self.noise_variance_ = known.noise / freedom
        self.n_components_, self.n_samples_seen_ = len(known.components), known.n_rows

    def _model(self) -> Decomposition:
        return Decomposition(
            components=self.components_,
            singular_values=self.singular_values_,
            explained_variance=self.explained_variance_,
            explained_variance_ratio=self.explained_variance_ratio_,
            mean=self.mean_,
            noise_variance=self.noise_variance_,
            n_samples=self.n_samples_seen_,
        )


def _batches(comm: Communicator, n_mine: int, size: int, least: int) -> Iterator[slice]:
    """Yield my part of each batch of all ranks' rows in order; the last has at least `least` rows of them.

    Collective, two small messages.
    """
    counts = comm.allgather(n_mine)
    first, n = sum(counts[: comm.rank]), sum(counts)
    starts = [start for start in range(0, n, size) if start == 0 or n - start >= least]
    for start, stop in pairwise([*starts, n]):
        yield slice(*(min(max(border - first, 0), n_mine) for border in (start, stop)))
