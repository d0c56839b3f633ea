"""The keys of `solver`, `evaluation` and `sweep`."""

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
from hpcml.spec.units import Cadence, auto_or, cadence, duration, file_or_word

__all__ = ["CrossValidation", "Evaluation", "Solver", "Sweep"]

_OWNERS: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = (
    ({"relaxation": 1.6}, ("admm",)),
    ({"max_staleness": 4, "min_batch": 1.0}, ("async_admm",)),
    ({"rho": "auto", "adapt_rho": "relative", "subproblems": "auto"}, ("admm", "async_admm")),
    ({"step": "auto"}, ("gd",)),
    ({"memory": 10}, ("lbfgs", "auto")),
    ({"batch_size": "auto", "learning_rate": 1.0, "averaging": False}, ("sgd",)),
)
"""Keys of few solvers, with their defaults."""

_WORD = text(name="a word")
_METRIC = choice(
    "accuracy",
    "log_loss",
    "roc_auc",
    "r2",
    "rmse",
    "d2",
    "deviance",
    "inertia",
    "silhouette_sampled",
    "explained_variance_ratio",
    later=("average_precision", "f1", "confusion", "mae"),
)


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
    epochs: int = key(integer("[1, inf)"), 5, doc="passes of minibatch_kmeans; those of sgd are max_iter")
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
