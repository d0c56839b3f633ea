"""Thin scikit-learn-conformant shells over the algorithms; the only room that imports scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.losses.kinds import CLASSIFIERS
from hpcml.errors import SpecError
from hpcml.estimators.base import UNKNOWN, LinearEstimator, Outcome
from hpcml.estimators.covariance import EmpiricalCovariance
from hpcml.estimators.elastic_net import ElasticNet, Lasso
from hpcml.estimators.glm import GammaRegressor, PoissonRegressor, TweedieRegressor
from hpcml.estimators.huber import HuberRegressor
from hpcml.estimators.incremental_pca import IncrementalPCA
from hpcml.estimators.kmeans import KMeans
from hpcml.estimators.logistic import LogisticRegression
from hpcml.estimators.minibatch_kmeans import MiniBatchKMeans
from hpcml.estimators.pca import PCA
from hpcml.estimators.random_projection import GaussianRandomProjection, SparseRandomProjection
from hpcml.estimators.regression import LinearRegression, Ridge
from hpcml.estimators.sgd import SGDClassifier, SGDRegressor
from hpcml.estimators.svc import LinearSVC
from hpcml.estimators.truncated_svd import TruncatedSVD

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
    "Outcome",
    "PoissonRegressor",
    "Ridge",
    "SGDClassifier",
    "SGDRegressor",
    "SparseRandomProjection",
    "TruncatedSVD",
    "TweedieRegressor",
    "estimator_from_model",
]

_CLASSES: dict[str, type[LinearEstimator]] = {
    "logistic_regression": LogisticRegression,
    "linear_svc": LinearSVC,
    "linear_regression": LinearRegression,
    "poisson_regression": PoissonRegressor,
    "gamma_regression": GammaRegressor,
    "tweedie_regression": TweedieRegressor,
    "huber_regression": HuberRegressor,
}


def estimator_from_model(
    model: LinearModel,
    *,
    labels: Sequence[Any] | None = None,
    alpha: float | None = None,
    l1_ratio: float = 0.0,
    feature_names: Sequence[str] | None = None,
    outcome: Outcome = UNKNOWN,
    **parameters: Any,
) -> LinearEstimator:
    """Return the fitted estimator of a model that was read from a file, say. Local.

    Parameters
    ----------
    model : LinearModel
    labels : sequence, optional
        What the classes are called, in the order of ``model.classes``; by default those numbers.
    alpha : float, optional
        Of a regression, as its estimator takes it. Above zero a linear regression is a Ridge, whose alpha is
        on the sum of squares, or an ElasticNet, whose alpha is on the mean, else a LinearRegression.
    l1_ratio : float
        Above zero for an ElasticNet or a logistic regression with an l1 part.
    feature_names : sequence of str, optional
    outcome : Outcome, optional
        How the fit ended.
    **parameters
        Of the estimator's constructor: C, fit_intercept, solver, tol, ...

    Raises
    ------
    SpecError
        The kind of model has no estimator, or labels or alpha do not fit it.
    """
    fitted: dict[str, Any] = {"feature_names": feature_names, "outcome": outcome, **parameters}
    if model.kind not in _CLASSES:
        raise SpecError(f"no estimator for a model of kind {model.kind!r}")
    kind = _CLASSES[model.kind]
    if model.kind in CLASSIFIERS and alpha is not None:
        raise SpecError("alpha is for a regression; a classifier takes C = 1 / (alpha sum s)")
    if model.kind == "linear_regression":
        penalised = ElasticNet if l1_ratio else Ridge
        kind, alpha = (penalised, alpha) if alpha else (LinearRegression, None)
    if model.kind == "tweedie_regression":
        fitted["power"] = model.power
    if alpha is not None:
        fitted["alpha"] = alpha
    if l1_ratio and kind in (ElasticNet, LogisticRegression):
        fitted["l1_ratio"] = l1_ratio
    return kind._from_model(model, labels=labels, **fitted)
