"""Families of models: how one is fitted, measured, applied to rows and read from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hpcml.spec.schema_model import TASKS

if TYPE_CHECKING:
    from hpcml.algorithms.metrics import Scores
    from hpcml.data import Block, Dataset
    from hpcml.run.fit import Fit, Solved

__all__ = ["Family", "family_of"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Family:
    """What a run does with models of one family.

    Parameters
    ----------
    solve : callable
        ``solve(fit)`` fits one. Collective.
    evaluate : callable
        ``evaluate(data, model, metrics, name of y)`` gives the metrics. Collective.
    columns : callable
        ``columns(model, block)`` gives what is predicted for each row, by name. Local.
    load : callable
        ``load(kind, arrays)`` gives the model that a file holds. Local.
    """

    solve: Callable[[Fit], Solved]
    evaluate: Callable[[Dataset, Any, Sequence[str], str], Scores]
    columns: Callable[[Any, Block], Arrays]
    load: Callable[[str, Arrays], Any]


def family_of(kind: str) -> Family:
    """Return the family of a type of model; only its own modules are imported. Local."""
    name = {"clustering": "clustering", "decomposition": "decomposition"}.get(TASKS[kind], "linear")
    family: Family = import_module(f"hpcml.run.{name}").FAMILY
    return family
