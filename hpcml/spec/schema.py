"""The whole spec: the top-level keys, and the rules that join sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from hpcml.spec.fields import Misfit, key, schema, section, steps
from hpcml.spec.kinds import anything, choice, fixed, integer, list_of, map_of, optional, path, text
from hpcml.spec.schema_data import STEPS, Data, Step
from hpcml.spec.schema_fit import Evaluation, Solver, Sweep
from hpcml.spec.schema_job import Checkpoint, Hooks, Output, Resources, Scratch, Watchdog
from hpcml.spec.schema_model import EXTRA_METRICS, METRICS, TASKS, Model
from hpcml.spec.tree import FrozenMap

__all__ = ["Spec"]

_NAME = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_-]*"


@schema
class Spec:
    """One experiment: everything a run needs to know, checked and with all defaults filled.

    Two specs are equal when their keys are; where the values came from (`origins`) and the base files that
    were read (`extends`) are no part of equality.
    """

    version: int = key(fixed(1), 1, doc="format version")
    name: str = key(
        text(_NAME, name="1 to 64 letters, digits, '.', '_' or '-'"), doc="name of experiment and job"
    )
    description: str = key(text(lines=True), "", doc="free text")
    tags: tuple[str, ...] = key(list_of(text(name="a tag"), distinct=True), (), doc="words to list runs by")
    seed: int = key(integer("[0, inf)"), 0, doc="one seed for everything")
    task: str = key(
        optional(
            choice("classification", "regression", "clustering", "decomposition", later=("count", "custom")),
            absent="",
        ),
        "",
        shown="from model.type",
        doc="default metrics and sanity checks",
    )
    extends: tuple[Path, ...] = key(list_of(path()), (), doc="base files", compare=False)
    vars: Mapping[str, Any] = key(map_of(anything(), _VARIABLE), FrozenMap(), doc="values for ${vars.NAME}")
    env: Mapping[str, str] = key(
        map_of(text(lines=True), r"[A-Za-z_][A-Za-z0-9_]*"), FrozenMap(), doc="environment of the ranks"
    )
    hooks: Hooks = section(Hooks, doc="functions of the user")
    data: Data = section(Data, doc="training data")
    preprocessing: tuple[Step, ...] = steps(STEPS, doc="steps in order, refitted per fold")
    model: Model = section(Model, doc="what is fitted")
    solver: Solver = section(Solver, doc="how it is fitted")
    evaluation: Evaluation = section(Evaluation, doc="what is measured")
    sweep: Sweep | None = section(Sweep, later=True, optional=True, doc="many runs of one spec")
    resources: Resources = section(Resources, doc="what the job asks for")
    scratch: Scratch = section(Scratch, doc="node-local storage")
    checkpoint: Checkpoint = section(Checkpoint, doc="saved states")
    watchdog: Watchdog = section(Watchdog, doc="late ranks")
    check_every: int = key(
        integer("[0, inf)"), 100, doc="iterations between comparisons of the state over ranks; 0 is never"
    )
    output: Output = section(Output, doc="where results go")
    _origins: Mapping[str, str] = field(default_factory=FrozenMap, compare=False, repr=False)

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Fill what follows from other keys: the task, and the metrics, by type of model."""
        values["task"] = _task(values["task"], values["model"].type)
        values["evaluation"] = _evaluation(values["evaluation"], values["model"].type)


def _task(given: str, model: str) -> str:
    """Return the task of a model, which a given task must agree with."""
    task = TASKS[model]
    if given and given != task:
        raise Misfit("task", f"{given} does not fit model.type: {model}; write {task} or leave task out")
    return task


def _evaluation(given: Evaluation, model: str) -> Evaluation:
    """Return the metrics filled by type of model; a primary metric must be one of them."""
    metrics = given.metrics or METRICS[model]
    fitting = METRICS[model] + EXTRA_METRICS.get(model, ())
    for metric in metrics:
        if metric not in fitting:
            raise Misfit(
                "evaluation.metrics",
                f"{metric} does not fit model.type: {model}; choose from {', '.join(fitting)}",
            )
    if given.primary and given.primary not in metrics:
        raise Misfit(
            "evaluation.primary",
            f"{given.primary} is not among the metrics; choose from {', '.join(metrics)}",
        )
    return replace(given, metrics=metrics, primary=given.primary or metrics[0])
