"""The keys of `model`, `solver`, `evaluation` and `sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcml.spec.fields import Misfit, key, schema, section
from hpcml.spec.kinds import (
    anything,
    boolean,
    choice,
    integer,
    list_of,
    map_of,
    number,
    optional,
    text,
)
from hpcml.spec.tree import FrozenMap
from hpcml.spec.units import Cadence, auto_or, cadence, duration, file_or_word, one_or_list

__all__ = ["METRICS", "TASKS", "CrossValidation", "Evaluation", "Model", "Solver", "Sweep"]

TASKS: Mapping[str, str] = {
    "logistic_regression": "classification",
    "linear_svc": "classification",
    "linear_regression": "regression",
    "poisson_regression": "regression",
    "gamma_regression": "regression",
    "tweedie_regression": "regression",
    "huber_regression": "regression",
}
_OF_MODELS: Mapping[str, Mapping[str, Any]] = {
    "tweedie_regression": {"power": 1.5},
    "huber_regression": {"epsilon": 1.35, "scale": "joint"},
}
"""Keys that one type of model alone has, with their defaults."""
_L1_RATIO = 0.5
_OWNERS: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = (
    ({"relaxation": 1.6}, ("admm",)),
    ({"max_staleness": 4, "min_batch": 1.0}, ("async_admm",)),
    ({"rho": "auto", "adapt_rho": "relative", "subproblems": "auto"}, ("admm", "async_admm")),
    ({"step": "auto"}, ("gd",)),
    ({"memory": 10}, ("lbfgs", "auto")),
    ({"batch_size": "auto", "learning_rate": 1.0, "averaging": False}, ("sgd",)),
)
"""Keys of few solvers, with their defaults."""
_OF_DEVIANCES = ("d2", "deviance", "rmse")
METRICS: Mapping[str, tuple[str, ...]] = {
    "logistic_regression": ("roc_auc", "log_loss", "accuracy"),
    "linear_svc": ("roc_auc", "accuracy"),
    "linear_regression": ("r2", "rmse"),
    "poisson_regression": _OF_DEVIANCES,
    "gamma_regression": _OF_DEVIANCES,
    "tweedie_regression": _OF_DEVIANCES,
    "huber_regression": ("r2", "rmse"),
}

_WORD = text(name="a word")
_METRIC = choice(
    "accuracy",
    "log_loss",
    "roc_auc",
    "r2",
    "rmse",
    "d2",
    "deviance",
    later=("average_precision", "f1", "confusion", "mae", "inertia", "silhouette_sampled"),
)


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
            later=(
                "kmeans",
                "minibatch_kmeans",
                "pca",
                "truncated_svd",
                "averaged",
                "forest",
                "xgboost",
                "custom",
            ),
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
    n_clusters: int | None = key(optional(integer("[1, inf)")), None, later=True, doc="number of clusters")
    init: str | Path = key(
        file_or_word("k-means-parallel", "k-means++", "k-means||", "random"),
        "k-means-parallel",
        later=True,
        doc="how k-means starts",
    )
    oversampling_factor: float = key(
        number("(0, inf)"), 2.0, later=True, doc="oversampling of k-means-parallel"
    )
    init_rounds: int = key(integer("[1, inf)"), 2, later=True, doc="rounds of k-means-parallel")
    n_init: int = key(integer("[1, inf)"), 1, later=True, doc="restarts; the best is kept")
    batch_size: int = key(integer("[1, inf)"), 4096, later=True, doc="rows of a mini-batch over all ranks")
    reassignment_ratio: float = key(number("[0, 1]"), 0.01, later=True, doc="when starved centres move")
    n_components: float | None = key(
        optional(number("(0, inf)")), None, later=True, doc="number of components"
    )
    algorithm: str = key(_WORD, "auto", later=True, doc="k-means algorithm")
    svd_solver: str = key(_WORD, "auto", later=True, doc="how components are computed")
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
    for owner, keys in _OF_MODELS.items():
        for name, default in keys.items():
            if values[name] != default and kind != owner:
                raise Misfit(name, f"is of type {owner}, not {kind}; leave it out")
    if values["l1_ratio"] is not None and values["penalty"] != "elasticnet":
        raise Misfit("l1_ratio", f"is of penalty elasticnet, not {values['penalty']}; leave it out")
    if 0 < values["power"] < 1:
        raise Misfit("power", "no Tweedie distribution has a power between 0 and 1; write 0 or at least 1")
    if values["class_weight"] is not None and TASKS[kind] != "classification":
        raise Misfit("class_weight", f"is of classifiers, not {kind}; weights of rows go to data.weight")


@schema
class Solver:
    """How it is fitted, and when the fit is done."""

    name: str = key(
        choice(
            "auto",
            "gd",
            "nesterov",
            "lbfgs",
            "newton",
            "newton_cg",
            "prox_newton",
            "gram",
            "admm",
            "async_admm",
            "fista",
            "sgd",
            later=("proximal_gd",),
        ),
        "auto",
        doc="the method; auto chooses by data and spec alone",
    )
    uncertified: str = key(choice("refuse", "allow"), "refuse", doc="losses without a certificate")
    max_iter: int = key(integer("[1, inf)"), 100, doc="most iterations")
    tol: float = key(number("(0, inf)"), 1e-6, doc="bound on the certificate of the result")
    abstol: float = key(number("(0, inf)"), 1e-4, later=True, doc="absolute pace of ADMM's inner work")
    reltol: float = key(number("(0, inf)"), 1e-3, later=True, doc="relative pace of ADMM's inner work")
    max_time: float | None = key(optional(duration()), None, doc="stop cleanly after this time")
    step: float | str = key(
        auto_or(number("(0, inf)"), "auto", "constant", "armijo", "bb"),
        "auto",
        doc="gd's steps; auto is bb, constant 1 over the largest curvature, a number that step",
    )
    progressive: bool | str = key(
        auto_or(boolean()),
        "auto",
        doc="start on growing samples of shards; auto where that saves passes; not for ADMM, gram, sgd",
    )
    rho: float | str = key(auto_or(number("(0, inf)")), "auto", doc="ADMM's first penalty parameter")
    adapt_rho: str = key(choice("relative", "none"), "relative", doc="how rho adapts")
    relaxation: float = key(number("(0, 2)"), 1.6, doc="ADMM's over-relaxation")
    subproblems: int | str = key(
        auto_or(integer("[1, inf)")), "auto", doc="ADMM's consensus copies, runs of shards"
    )
    local: str = key(
        choice("auto", "cholesky", "lbfgs", "newton"), "auto", later=True, doc="ADMM's local step"
    )
    max_staleness: int = key(
        integer("[0, inf)"), 4, doc="rounds that a rank of async_admm may be ahead of the slowest"
    )
    min_batch: float = key(
        number("(0, inf)"), 1.0, doc="updates before a new consensus of async_admm; below 1 a share of them"
    )
    coordinator: str = key(choice("rank0", "dedicated"), "rank0", later=True, doc="who coordinates")
    start: str = key(
        choice("zero", "local_sgd"),
        "zero",
        doc="where any solver starts: at zero, or at the average of a pass of SGD in each shard",
    )
    memory: int = key(integer("[1, inf)"), 10, doc="pairs that lbfgs keeps")
    epochs: int = key(integer("[1, inf)"), 5, later=True, doc="passes of the SGD family; now max_iter")
    batch_size: int | str = key(auto_or(integer("[1, inf)")), "auto", doc="SGD's rows of a mini-batch, about")
    learning_rate: float = key(number("(0, inf)"), 1.0, doc="SGD's first step times the largest curvature")
    averaging: bool = key(boolean(), False, doc="SGD: average iterates, do not reduce variance")
    schedule: str = key(_WORD, "inv_scaling", later=True, doc="how the step of the SGD family shrinks")
    momentum: float = key(number("[0, 1)"), 0.9, later=True, doc="momentum of the SGD family")
    average_every: int = key(integer("[1, inf)"), 1, later=True, doc="epochs between averages")
    warm_start: str | Path = key(
        file_or_word("none", "previous", "subsample"), "none", later=True, doc="where the fit starts"
    )
    reduction: str = key(
        choice("reproducible", later=("native",)),
        "reproducible",
        doc="reproducible: the same bits on any number of ranks",
    )
    metrics_every: Cadence = key(cadence(), Cadence(iterations=10), doc="cadence of costly diagnostics")
    early_stopping: Mapping[str, Any] | None = key(
        optional(map_of(anything())), None, later=True, doc="stop when a metric stops improving"
    )

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse keys of few solvers for another."""
        solver = values["name"]
        for keys, owners in _OWNERS:
            for name, default in keys.items():
                if values[name] != default and solver not in owners:
                    owner = " or ".join(owners)
                    raise Misfit(name, f"is of solver.name: {owner}, not {solver}; leave it out")


@schema
class CrossValidation:
    """Folds and what is done with them."""

    folds: int = key(integer("[0, inf)"), 0, later=True, doc="folds; 0 is none")
    method: str = key(choice("kfold", "stratified", "group"), "kfold", later=True, doc="how folds are cut")
    refit: bool = key(boolean(), True, later=True, doc="fit again on all training rows")


@schema
class Evaluation:
    """What is measured on the test part; the defaults come from the task."""

    metrics: tuple[str, ...] = key(
        list_of(_METRIC, distinct=True, least=1), (), shown="by task", doc="metrics"
    )
    primary: str = key(
        optional(_METRIC, absent=""), "", shown="the first of metrics", doc="the metric that stands for all"
    )
    cv: CrossValidation = section(CrossValidation, doc="cross-validation")
    predictions: str = key(choice("none", "test", "all"), "none", doc="rows whose predictions are written")
    every: int = key(integer("[0, inf)"), 0, later=True, doc="iterations between validations during the fit")


@schema
class Sweep:
    """Many runs of one spec."""

    method: str = key(choice("grid", "random", "zip", "path"), "grid", doc="how combinations are made")
    parameters: Mapping[str, Any] = key(map_of(anything()), doc="dotted key to values")
    trials: int | None = key(optional(integer("[1, inf)")), None, doc="number of random trials")
    exclude: tuple[Any, ...] = key(list_of(map_of(anything())), (), doc="combinations to skip")
    metric: str | None = key(optional(_METRIC), None, shown="evaluation.primary", doc="what decides")
    mode: str | None = key(optional(choice("min", "max")), None, shown="by metric", doc="which end is best")
    parallel: str | None = key(
        optional(choice("array", "split", "serial")),
        None,
        shown="array under Slurm, else serial",
        doc="how trials run side by side",
    )
    ranks_per_trial: int | None = key(
        optional(integer("[1, inf)")), None, shown="all", doc="ranks of a trial"
    )
    max_parallel: int = key(integer("[0, inf)"), 0, doc="trials at a time; 0 is no cap")
    trials_per_task: int = key(integer("[1, inf)"), 1, doc="trials of an array task")
    fail_fast: bool = key(boolean(), False, doc="one failed trial ends the others")
    reuse: str = key(choice("stages", "none"), "stages", doc="what trials share")
    halving: Mapping[str, Any] | None = key(optional(map_of(anything())), None, doc="successive halving")
