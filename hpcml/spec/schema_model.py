"""The keys of `model`: what is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcml.spec.fields import Misfit, key, schema
from hpcml.spec.kinds import anything, boolean, choice, integer, list_of, map_of, number, optional, text
from hpcml.spec.tree import FrozenMap
from hpcml.spec.units import auto_or, file_or_word, one_or_list

__all__ = ["EXTRA_METRICS", "METRICS", "TASKS", "UNLABELLED", "Model"]

_CLASSIFIERS = ("logistic_regression", "linear_svc")
_REGRESSIONS = (
    "linear_regression",
    "poisson_regression",
    "gamma_regression",
    "tweedie_regression",
    "huber_regression",
)
_LINEAR = (*_CLASSIFIERS, *_REGRESSIONS)
_CLUSTERS = ("kmeans", "minibatch_kmeans")
_COMPONENTS = ("pca", "truncated_svd")
TASKS: Mapping[str, str] = {
    **dict.fromkeys(_CLASSIFIERS, "classification"),
    **dict.fromkeys(_REGRESSIONS, "regression"),
    **dict.fromkeys(_CLUSTERS, "clustering"),
    **dict.fromkeys(_COMPONENTS, "decomposition"),
}
UNLABELLED = ("clustering", "decomposition")
"""Tasks whose rows need no labels."""
_OWNERS: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = (
    ({"power": 1.5}, ("tweedie_regression",)),
    ({"epsilon": 1.35, "scale": "joint"}, ("huber_regression",)),
    (
        {
            "penalty": "l2",
            "alpha": 1e-4,
            "C": None,
            "l1_ratio": None,
            "fit_intercept": True,
            "class_weight": None,
            "lower": None,
            "upper": None,
            "penalty_factor": None,
        },
        _LINEAR,
    ),
    (
        {"n_clusters": None, "init": "k-means-parallel", "oversampling_factor": 2.0, "init_rounds": 2},
        _CLUSTERS,
    ),
    ({"n_init": 1, "algorithm": "auto"}, ("kmeans",)),
    ({"batch_size": None, "reassignment_ratio": 0.01}, ("minibatch_kmeans",)),
    ({"n_components": None, "svd_solver": "auto", "n_iter": None}, _COMPONENTS),
    ({"whiten": False}, ("pca",)),
)
"""Keys of few types of model, with their defaults."""
_L1_RATIO = 0.5
_OF_DEVIANCES = ("d2", "deviance", "rmse")
METRICS: Mapping[str, tuple[str, ...]] = {
    "logistic_regression": ("roc_auc", "log_loss", "accuracy"),
    "linear_svc": ("roc_auc", "accuracy"),
    "linear_regression": ("r2", "rmse"),
    "poisson_regression": _OF_DEVIANCES,
    "gamma_regression": _OF_DEVIANCES,
    "tweedie_regression": _OF_DEVIANCES,
    "huber_regression": ("r2", "rmse"),
    **dict.fromkeys(_CLUSTERS, ("inertia",)),
    **dict.fromkeys(_COMPONENTS, ("explained_variance_ratio",)),
}
"""What is measured where `evaluation.metrics` is not given."""
EXTRA_METRICS: Mapping[str, tuple[str, ...]] = dict.fromkeys(_CLUSTERS, ("silhouette_sampled",))
"""What may be asked for besides."""

_WORD = text(name="a word")


@schema
class Model:
    """What is fitted. `alpha` is the strength on the mean loss; it is None when `C` is given instead."""

    type: str = key(
        choice(
            "logistic_regression",
            "linear_regression",
            "poisson_regression",
            "gamma_regression",
            "tweedie_regression",
            "linear_svc",
            "huber_regression",
            "kmeans",
            "minibatch_kmeans",
            "pca",
            "truncated_svd",
            later=("averaged", "forest", "xgboost", "custom"),
        ),
        doc="the model",
    )
    penalty: str = key(choice("none", "l2", "l1", "elasticnet"), "l2", doc="the penalty")
    alpha: float | None = key(optional(number("[0, inf)")), 1e-4, doc="strength on the mean loss")
    C: float | None = key(optional(number("(0, inf)")), None, doc="instead of alpha: alpha = 1 / (C sum w)")
    l1_ratio: float | None = key(
        optional(number("[0, 1]")), None, doc="share of l1 in elasticnet, 0.5 if not given"
    )
    fit_intercept: bool = key(boolean(), True, doc="fit an intercept, never penalised")
    class_weight: Mapping[str, float] | str | None = key(
        optional(auto_or(map_of(number("[0, inf)"), name="map of label to weight"), "balanced")),
        None,
        doc="what the weights of a class's rows are multiplied by",
    )
    link: str = key(_WORD, "canonical", later=True, doc="link of a generalised linear model")
    power: float = key(
        number("[0, inf)"),
        1.5,
        doc="of the Tweedie deviance: 0 normal, 1 Poisson, 2 gamma",
    )
    epsilon: float = key(number("[1, inf)"), 1.35, doc="of Huber's loss: where it becomes linear, in scales")
    scale: float | str = key(
        auto_or(number("(0, inf)"), "joint"),
        "joint",
        doc="of huber_regression: the scale of the residuals; joint finds it with the weights",
    )
    n_clusters: int | None = key(optional(integer("[1, inf)")), None, doc="number of clusters")
    init: str | Path = key(
        file_or_word("k-means-parallel", "k-means++", "k-means||", "random"),
        "k-means-parallel",
        doc="how k-means starts: a rule, or a .npy file of centres",
    )
    oversampling_factor: float = key(
        number("(0, inf)"), 2.0, doc="rows that a round of k-means-parallel draws, times n_clusters"
    )
    init_rounds: int = key(integer("[1, inf)"), 2, doc="rounds of k-means-parallel")
    n_init: int = key(integer("[1, inf)"), 1, doc="restarts of k-means; the best is kept")
    batch_size: int | None = key(
        optional(integer("[1, inf)")),
        None,
        doc="rows of a mini-batch over all ranks, about; null is a 64th of all rows, at least 32",
    )
    reassignment_ratio: float = key(
        number("[0, 1]"), 0.01, doc="centres with less than this share of the largest count move"
    )
    n_components: float | None = key(
        optional(number("(0, inf)")), None, doc="number of components, or below 1 the share of the variance"
    )
    whiten: bool = key(boolean(), False, doc="give each component of pca variance 1")
    algorithm: str = key(
        choice("auto", "lloyd", "bounds"), "auto", doc="of kmeans: the same answer, with fewer distances"
    )
    svd_solver: str = key(
        choice("auto", "gram", "tsqr", "randomized"), "auto", doc="how components are computed"
    )
    n_iter: int | None = key(
        optional(integer("[0, inf)")),
        None,
        doc="power iterations of svd_solver: randomized; null ends them at solver.tol",
    )
    lower: float | tuple[float, ...] | None = key(
        optional(one_or_list(number("(-inf, 0]"))), None, doc="least coefficients, of all or of each feature"
    )
    upper: float | tuple[float, ...] | None = key(
        optional(one_or_list(number("[0, inf)"))), None, doc="largest coefficients, of all or of each feature"
    )
    penalty_factor: tuple[float, ...] | None = key(
        optional(list_of(number("[0, inf)"))), None, doc="what alpha is multiplied by for each feature"
    )
    init_args: Mapping[str, Any] = key(
        map_of(anything()), FrozenMap(), later=True, doc="arguments of the model"
    )

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Let one of `alpha` and `C` say the strength; keys of other models are refused."""
        _refuse_foreign(values)
        _require(values)
        if values["penalty"] == "elasticnet" and values["l1_ratio"] is None:
            values["l1_ratio"] = _L1_RATIO
        if {"alpha", "C"} <= given:
            raise Misfit("C", "alpha and C both say the strength of the penalty; write one of the two")
        if values["C"] is not None:
            values["alpha"] = None
        elif values["alpha"] is None:
            raise Misfit(
                "alpha", "neither alpha nor C says the strength of the penalty; write one of the two"
            )


def _refuse_foreign(values: dict[str, Any]) -> None:
    """Refuse keys that say nothing about the type of model, and a power without a distribution."""
    kind = values["type"]
    for keys, owners in _OWNERS:
        for name, default in keys.items():
            if values[name] != default and kind not in owners:
                raise Misfit(name, f"is of type {_listed(owners)}, not {kind}; leave it out")
    if values["l1_ratio"] is not None and values["penalty"] != "elasticnet":
        raise Misfit("l1_ratio", f"is of penalty elasticnet, not {values['penalty']}; leave it out")
    if 0 < values["power"] < 1:
        raise Misfit("power", "no Tweedie distribution has a power between 0 and 1; write 0 or at least 1")
    if values["class_weight"] is not None and TASKS[kind] != "classification":
        raise Misfit("class_weight", f"is of classifiers, not {kind}; weights of rows go to data.weight")


def _listed(owners: tuple[str, ...]) -> str:
    return "one of the linear models" if owners == _LINEAR else " or ".join(owners)


def _require(values: dict[str, Any]) -> None:
    """Refuse a clustering without a number of clusters, and a number of components that is none."""
    kind, n = values["type"], values["n_components"]
    if kind in _CLUSTERS and values["n_clusters"] is None:
        raise Misfit("n_clusters", f"{kind} needs the number of clusters")
    if kind == "truncated_svd" and (n is None or n < 1):
        raise Misfit("n_components", "truncated_svd needs the number of components, 1 or more")
    if n is not None and n > 1 and n != int(n):
        raise Misfit("n_components", f"{n:g} is no number of components, and no share of the variance")
