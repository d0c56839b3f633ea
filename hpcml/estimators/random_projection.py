"""Random projections with scikit-learn's names; the matrix is made anew where it is needed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from hpcml.algorithms.random_projection import (
    GaussianMatrix,
    RandomMatrix,
    SparseMatrix,
    components,
    johnson_lindenstrauss_min_dim,
    project,
)
from hpcml.collectives import Communicator
from hpcml.data import Matrix, is_csr
from hpcml.errors import DataError, SpecError, shared
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.distributed import DistributedEstimator
from hpcml.estimators.inputs import check_same, feature_digest, find_comm, is_dataset, read_matrix, validated

__all__ = ["GaussianRandomProjection", "SparseRandomProjection"]

_FLOATS = [np.float64, np.float32]


class _RandomProjection(TransformerMixin, ClassNamePrefixFeaturesOutMixin, DistributedEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the two share."""

    n_components: int | str
    eps: float
    compute_inverse_components: bool
    random_state: int | None
    n_components_: int
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "eps": [Interval(Real, 0, None, closed="neither")],
        "compute_inverse_components": ["boolean"],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the shape of X. Collective: a few small messages; no row is used.

        Parameters
        ----------
        X : {array, CSR, table} of shape (my rows, n_features), or Dataset
            With a communicator, this rank's rows, maybe none.
        y : ignored

        Raises
        ------
        SpecError
            A parameter is wrong, ranks differ in one, or eps asks for more components than features.
        DataError
            X is no matrix of numbers, or ranks differ in its columns. Both are ValueErrors.
        """
        comm = find_comm(self.comm, X)
        self._check_parameters(comm)
        n_samples = self._read_shape(comm, X)
        self.n_components_ = self._number(n_samples)
        self._set_density()
        if self.compute_inverse_components:
            self.inverse_components_ = self._inverse()
        return self

    def transform(self, X: Any) -> Matrix:
        """Return ``X @ components_.T`` of my rows, (my rows, n_components). Local.

        The dtype is that of X. The bits do not depend on how the rows were split.
        """
        check_is_fitted(self)
        with one_blas_thread():
            if not is_dataset(X):
                return self._shaped(project(read_matrix(self, X), self._matrix()))
            self._check_width(X)
            parts = [self._shaped(project(block.X, self._matrix(), block.pieces)) for block in X.blocks()]
        if not parts:
            return np.zeros((0, self.n_components_))
        return sparse.vstack(parts, format="csr") if is_csr(parts[0]) else np.concatenate(parts)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return ``X @ pinv(components_).T``, (my rows, n_features). Local; takes the whole matrix."""
        check_is_fitted(self)
        X = check_array(X, dtype=_FLOATS, accept_sparse="csr", ensure_min_samples=0)
        stored = getattr(self, "inverse_components_", None)
        inverse = self._inverse() if stored is None else stored
        return np.asarray(X @ inverse.T)

    @property
    def components_(self) -> Matrix:
        """The matrix, (n_components, n_features), made at each call. Local."""
        check_is_fitted(self, "n_components_")
        return components(self._matrix())

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _read_shape(self, comm: Communicator, X: Any) -> int:
        """Learn the features and return the number of rows over all ranks. Collective."""
        if is_dataset(X):
            self._forget_names()
            self.n_features_in_ = X.n_features
            return int(X.n_samples)
        with validated(comm):
            least = int(comm.size == 1)
            X = validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, ensure_min_samples=least)
        check_same(comm, {"columns": str(X.shape[1]), "the names of features": feature_digest(self)})
        n_samples = int(comm.allreduce(np.array([X.shape[0]]))[0][0])
        if n_samples == 0:
            raise shared(DataError("there are no rows"))
        return n_samples

    def _number(self, n_samples: int) -> int:
        """Return the number of components. Local."""
        if self.n_components != "auto":
            return int(self.n_components)
        try:
            wanted = int(johnson_lindenstrauss_min_dim(n_samples, eps=self.eps))
        except ValueError as error:
            raise shared(SpecError(str(error))) from None
        if wanted <= 0:
            raise shared(SpecError(f"eps={self.eps} and {n_samples} row(s) ask for {wanted} components"))
        if wanted > self.n_features_in_:
            sentence = f"eps={self.eps} and {n_samples} rows ask for {wanted} components, more than the"
            raise shared(SpecError(f"{sentence} {self.n_features_in_} features; take a larger eps"))
        return wanted

    def _inverse(self) -> NDArray[Any]:
        matrix: Any = self.components_
        inverse: NDArray[Any] = linalg.pinv(matrix.toarray() if is_csr(matrix) else matrix)
        return inverse

    def _set_density(self) -> None:
        """Set density_ where there is one. Local."""

    def _shaped(self, projected: Matrix) -> Matrix:
        """Return the projection as the user wants it. Local."""
        return projected

    def _matrix(self) -> RandomMatrix:
        """Return what makes the matrix. Local."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class GaussianRandomProjection(_RandomProjection):
    """``x @ R`` with independent normal elements of R, of variance ``1 / n_components``.

    R is keyed by (random_state, feature) and made by blocks as it is needed: a fitted object holds none of
    it, and every rank has the same.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        auto is `johnson_lindenstrauss_min_dim` of the rows of all ranks.
    eps : float, default=0.1
        For auto.
    compute_inverse_components : bool, default=False
        Keep the pseudo-inverse of the matrix, dense, for `inverse_transform`.
    random_state : int or None, default=None
        Key of the matrix; None is 0.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job.

    Attributes
    ----------
    n_components_ : int
    components_ : (n_components, n_features) array
        Made at each call.
    inverse_components_ : (n_features, n_components) array
        Where it was asked for.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcml.estimators import GaussianRandomProjection
    >>> X = np.random.default_rng(0).random((25, 3000))
    >>> GaussianRandomProjection(eps=0.5).fit_transform(X).shape
    (25, 154)
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        compute_inverse_components: bool = False,
        random_state: int | None = None,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.comm = comm

    def _matrix(self) -> RandomMatrix:
        return GaussianMatrix(self.n_features_in_, self.n_components_, self.random_state or 0)


class SparseRandomProjection(_RandomProjection):
    """``x @ R`` with elements ``+-1 / sqrt(density n_components)`` of R with chance `density`, else 0.

    R is keyed and made by blocks, as of GaussianRandomProjection.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        auto is `johnson_lindenstrauss_min_dim` of the rows of all ranks.
    density : float or "auto", default="auto"
        In (0, 1]; auto is ``1 / sqrt(n_features)``.
    eps : float, default=0.1
        For n_components="auto".
    dense_output : bool, default=False
        Give a dense array for CSR rows, too.
    compute_inverse_components : bool, default=False
        Keep the pseudo-inverse of the matrix, dense, for `inverse_transform`.
    random_state : int or None, default=None
        Key of the matrix; None is 0.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job.

    Attributes
    ----------
    n_components_ : int
    density_ : float
    components_ : (n_components, n_features) CSR
        Made at each call.
    inverse_components_ : (n_features, n_components) array
        Where it was asked for.
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcml.estimators import SparseRandomProjection
    >>> X = np.random.default_rng(0).random((25, 3000))
    >>> SparseRandomProjection(eps=0.5).fit_transform(X).shape
    (25, 154)
    """

    density_: float
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_RandomProjection._parameter_constraints,
        "density": [Interval(Real, 0.0, 1.0, closed="right"), StrOptions({"auto"})],
        "dense_output": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        density: float | str = "auto",
        eps: float = 0.1,
        dense_output: bool = False,
        compute_inverse_components: bool = False,
        random_state: int | None = None,
        comm: Communicator | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.eps = eps
        self.dense_output = dense_output
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.comm = comm

    def _set_density(self) -> None:
        is_auto = self.density == "auto"
        self.density_ = 1 / np.sqrt(self.n_features_in_) if is_auto else float(self.density)

    def _matrix(self) -> RandomMatrix:
        return SparseMatrix(self.n_features_in_, self.n_components_, self.density_, self.random_state or 0)

    def _shaped(self, projected: Matrix) -> Matrix:
        return projected.toarray() if self.dense_output and is_csr(projected) else projected
