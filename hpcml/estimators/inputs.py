"""What may be handed to `fit`: arrays, tables and data sets, and the ranks that share them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import get_config
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from hpcml.collectives import Communicator, SerialCommunicator, agreed, world
from hpcml.collectives.launch import expected_size, launched_rank
from hpcml.data import Dataset, Matrix
from hpcml.errors import DataError, HpcmlError, SpecError

__all__ = [
    "Rows",
    "assumes_finite",
    "check_dataset",
    "check_same",
    "feature_digest",
    "find_comm",
    "is_dataset",
    "read_matrix",
    "read_offset",
    "read_points",
    "read_rows",
    "refuse_beside",
    "validated",
]

_FLOATS = [np.float64, np.float32]


class Rows(NamedTuple):
    """Checked rows of one rank: X in C order or CSR, float32 or float64."""

    X: Matrix
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None = None


def is_dataset(X: Any) -> bool:
    """Tell whether X is a hpcml Dataset. Local."""
    return callable(getattr(X, "blocks", None)) and hasattr(X, "partition") and hasattr(X, "comm")


def find_comm(comm: Any, X: Any) -> Communicator:
    """Return the ranks that share X. Collective where ``comm="world"`` starts MPI, else Local.

    Raises
    ------
    SpecError
        `comm` is none, or X is a data set of other ranks.
    """
    named = isinstance(comm, str) and comm == "world"
    if not (named or comm is None or callable(getattr(comm, "allreduce", None))):
        raise SpecError(f"comm must be None, 'world' or a Communicator, not {comm!r}")
    given: Communicator | None = world() if named else comm
    if is_dataset(X):
        own: Communicator = X.comm
        if given is not None and given is not own:
            raise SpecError("the data set brings a communicator of its own: leave comm at None")
        return own
    if given is None:
        _warn_of_apart()
        return SerialCommunicator()
    return given


@cache
def _warn_of_apart() -> None:
    """Warn once, on the first of several launched processes."""
    if launched_rank() == 0 and expected_size() != 1:
        text = "comm=None: each rank fits its own rows; comm='world' fits the rows of all ranks"
        warnings.warn(text, stacklevel=4)


@contextmanager
def validated(comm: Communicator) -> Iterator[None]:
    """Run Local checks of scikit-learn; what they refuse is a DataError on all ranks.

    Collective, one small message.
    """
    try:
        with agreed(comm):
            try:
                yield
            except HpcmlError:
                raise
            except (TypeError, ValueError) as error:
                raise DataError(str(error)) from error
    except DataError as error:
        # scikit-learn's users expect its TypeError; ranks can agree on a class of ours only.
        if comm.size == 1 and isinstance(error.__cause__, TypeError):
            raise error.__cause__ from None
        raise


def check_same(comm: Communicator, facts: Mapping[str, str]) -> None:
    """Refuse ranks that differ in what must be the same; an empty fact fits any.

    Collective, two small messages.
    """
    said = comm.allgather(dict(facts))
    for name in facts:
        values = sorted({one[name] for one in said} - {""})
        if len(values) > 1:
            raise SpecError(f"ranks differ in {name}: {', '.join(values)}")


def feature_digest(estimator: BaseEstimator) -> str:
    """Return a short text that identifies the names of the features, or nothing. Local."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return ""
    return f"{len(names)} names of digest {hashlib.sha256(repr(list(names)).encode()).hexdigest()[:12]}"


def assumes_finite() -> bool:
    """Tell whether scikit-learn was told not to look for NaN and Inf. Local."""
    return bool(get_config()["assume_finite"])


def read_matrix(estimator: BaseEstimator, X: Any) -> Matrix:
    """Return X as the fitted estimator takes it; it may have no rows. Local."""
    X = validate_data(estimator, X, reset=False, accept_sparse="csr", dtype=_FLOATS, ensure_min_samples=0)
    return _as_array(X)


def read_rows(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    sample_weight: Any,
    offset: Any = None,
    *,
    least: int,
    reset: bool,
) -> Rows:
    """Return X, y, weight and offset checked by scikit-learn's rules, float32 kept. Local.

    Parameters
    ----------
    estimator : BaseEstimator
        Learns the number and names of the features if `reset`, else compares them.
    least : int
        Fewest rows: one rank of several may have none.
    """
    X, y = validate_data(
        estimator,
        X,
        y,
        reset=reset,
        accept_sparse="csr",
        dtype=_FLOATS,
        order="C",  # BLAS adds in another order for another layout
        y_numeric=is_regressor(estimator),
        ensure_min_samples=least,
    )
    return Rows(_as_array(X), y, _read_weight(sample_weight, X), read_offset(offset, X.shape[0]))


def read_points(
    estimator: BaseEstimator, X: Any, sample_weight: Any, *, least: int, reset: bool
) -> tuple[Matrix, NDArray[np.float64] | None]:
    """Return X and weight of rows without labels, checked as `read_rows` does. Local."""
    X = validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=_FLOATS,
        order="C",
        ensure_min_samples=least,
    )
    return _as_array(X), _read_weight(sample_weight, X)


def _as_array(X: Any) -> Matrix:
    return sparse.csr_array(X) if sparse.issparse(X) else X


def _read_weight(sample_weight: Any, X: Any) -> NDArray[np.float64] | None:
    """Return the weights, one a row. Zero and negative ones are judged over all ranks, later."""
    if sample_weight is None:
        return None
    if X.shape[0] == 0:
        return np.zeros(0)
    weight: NDArray[np.float64] = _check_sample_weight(
        sample_weight, X, dtype=np.float64, allow_all_zero_weights=True
    )
    return weight


def read_offset(offset: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Return the offsets, one a row and finite. Local.

    Raises
    ------
    ValueError
        They are something else.
    """
    if offset is None:
        return None
    column: NDArray[np.float64] = check_array(
        offset, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="offset"
    )
    if column.shape != (n_rows,):
        raise DataError(f"X has {n_rows} rows and offset has shape {column.shape}")
    return column


def refuse_beside(**given: Any) -> None:
    """Refuse columns beside a data set, which brings its own. Local."""
    for name, value in given.items():
        if value is not None:
            raise SpecError(f"the data set brings its own {name}: do not pass another")


def check_dataset(data: Dataset, y: Any, sample_weight: Any, offset: Any = None) -> None:
    """Refuse labels, weights and offsets beside a data set, and one without labels. Local."""
    refuse_beside(y=y, sample_weight=sample_weight, offset=offset)
    first = next(iter(data.blocks()), None)
    if first is not None and first.y is None:
        raise DataError("the data set has no y")
