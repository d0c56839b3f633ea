"""From a model file to a fitted estimator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.algorithms.clustering.model import clusters_from_arrays
from hpcml.algorithms.decomposition.model import components_from_arrays
from hpcml.algorithms.linear_model import model_from_arrays
from hpcml.algorithms.losses.kinds import CLASSIFIERS
from hpcml.estimators import estimator_from_model
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.estimators.kmeans import KMeans
from hpcml.estimators.minibatch_kmeans import MiniBatchKMeans
from hpcml.estimators.pca import PCA
from hpcml.estimators.truncated_svd import TruncatedSVD
from hpcml.io.model import ModelFile, read_model

__all__ = ["load_model"]


def load_model(path: str | Path) -> Any:
    """Return the fitted estimator that a run saved: LogisticRegression, Ridge, KMeans, PCA, ...

    Local. Nothing in the file is executed. A model that was trained with offsets takes them in `predict`.

    Parameters
    ----------
    path : str or Path
        A model file, or a run directory that has one.

    Raises
    ------
    DataError
        It is missing, or not a model file of this version.

    Examples
    --------
    >>> model = load_model("runs/flights-delay")  # doctest: +SKIP
    >>> model.predict_proba(X)  # doctest: +SKIP
    """
    path = Path(path)
    file = read_model(path / "model.h5" if path.is_dir() else path)
    load: Callable[[ModelFile], Any] = _LOADERS.get(file.about["kind"], _linear)
    return load(file)


def _linear(file: ModelFile) -> LinearEstimator:
    about = file.about
    model = model_from_arrays(about["kind"], file.arrays)
    settings: dict[str, Any] = {"fit_intercept": about["spec"]["model"]["fit_intercept"]}
    spec = about["spec"]["model"]
    ratio = {"l1": 1.0, "elasticnet": spec.get("l1_ratio", 0.0)}.get(spec["penalty"], 0.0)
    settings["l1_ratio"] = ratio
    strength = about["alpha"] * about["total_weight"]
    if about["kind"] in CLASSIFIERS:
        settings["C"] = 1.0 / strength if strength else float("inf")
    else:  # Ridge and HuberRegressor take their strength on the sum, the others on the mean
        is_ridge = about["kind"] == "linear_regression" and not ratio
        is_huber = about["kind"] == "huber_regression"
        settings["alpha"] = strength if is_ridge or is_huber else about["alpha"]
        settings |= {"epsilon": spec["epsilon"]} if is_huber else {}
    outcome = Outcome(**{name: about[name] for name in Outcome._fields})
    return estimator_from_model(
        model, labels=about["labels"], feature_names=about["feature_names"], outcome=outcome, **settings
    )


def _clusters(file: ModelFile) -> Any:
    model, about = clusters_from_arrays(file.about["kind"], file.arrays), file.about
    kind = KMeans if model.kind == "kmeans" else MiniBatchKMeans
    found: Any = kind(len(model.centers), random_state=about["spec"]["seed"])
    found.cluster_centers_ = model.centers
    found.inertia_, found.n_iter_ = about["objective"], about["n_iter"]
    found.converged_, found.reason_ = about["converged"], about["reason"]
    _name(found, model.n_features, about)
    return found


def _components(file: ModelFile) -> Any:
    model, about = components_from_arrays(file.about["kind"], file.arrays), file.about
    k = len(model.found.components)
    found = PCA(k, whiten=model.whiten) if model.kind == "pca" else TruncatedSVD(k)
    found._set_model(model.found)
    _name(found, model.n_features, about)
    return found


def _name(found: Any, n_features: int, about: dict[str, Any]) -> None:
    found.n_features_in_ = n_features
    if about["feature_names"]:
        found.feature_names_in_ = np.array(about["feature_names"], object)


_LOADERS: dict[str, Callable[[ModelFile], Any]] = {
    "kmeans": _clusters,
    "minibatch_kmeans": _clusters,
    "pca": _components,
    "truncated_svd": _components,
}
