"""hpcml: machine learning on MPI ranks, with the same bits on any number of them."""

from __future__ import annotations

from hpcml.collectives.abort import install as _install_abort_hook

# First of all: what strikes one rank strikes early, and would leave the others waiting for ever.
_install_abort_hook()

from importlib import import_module as _import_module  # noqa: E402
from typing import TYPE_CHECKING as _TYPE_CHECKING  # noqa: E402
from typing import Any as _Any  # noqa: E402

if _TYPE_CHECKING:
    from hpcml.estimators import (
        PCA,
        ElasticNet,
        EmpiricalCovariance,
        GammaRegressor,
        GaussianRandomProjection,
        HuberRegressor,
        IncrementalPCA,
        KMeans,
        Lasso,
        LinearRegression,
        LinearSVC,
        LogisticRegression,
        MiniBatchKMeans,
        PoissonRegressor,
        Ridge,
        SGDClassifier,
        SGDRegressor,
        SparseRandomProjection,
        TruncatedSVD,
        TweedieRegressor,
    )
    from hpcml.estimators.loading import load_model
    from hpcml.io.dataset import open_hdf5

__version__ = "0.1.0"
__all__ = [
    "PCA",
    "ElasticNet",
    "EmpiricalCovariance",
    "GammaRegressor",
    "GaussianRandomProjection",
    "HuberRegressor",
    "IncrementalPCA",
    "KMeans",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LogisticRegression",
    "MiniBatchKMeans",
    "PoissonRegressor",
    "Ridge",
    "SGDClassifier",
    "SGDRegressor",
    "SparseRandomProjection",
    "TruncatedSVD",
    "TweedieRegressor",
    "__version__",
    "load_model",
    "open_hdf5",
]

_HOMES = {
    "PCA": "estimators",
    "ElasticNet": "estimators",
    "EmpiricalCovariance": "estimators",
    "GammaRegressor": "estimators",
    "GaussianRandomProjection": "estimators",
    "HuberRegressor": "estimators",
    "IncrementalPCA": "estimators",
    "KMeans": "estimators",
    "Lasso": "estimators",
    "LinearRegression": "estimators",
    "LinearSVC": "estimators",
    "LogisticRegression": "estimators",
    "MiniBatchKMeans": "estimators",
    "PoissonRegressor": "estimators",
    "Ridge": "estimators",
    "SGDClassifier": "estimators",
    "SGDRegressor": "estimators",
    "SparseRandomProjection": "estimators",
    "TruncatedSVD": "estimators",
    "TweedieRegressor": "estimators",
    "load_model": "estimators.loading",
    "open_hdf5": "io.dataset",
}


def __getattr__(name: str) -> _Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
