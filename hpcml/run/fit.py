"""What a family of models needs from a run to fit one, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcml.algorithms.model import Model
from hpcml.run.parts import Parts
from hpcml.run.saver import Saver
from hpcml.spec import Spec

__all__ = ["Fit", "Solved"]


@dataclass(frozen=True)
class Fit:
    """One fit of a run.

    Parameters
    ----------
    spec : Spec
    parts : Parts
    saver : Saver
        The callback of iterations; its ballot goes into their messages.
    tree : dict or None
        The state of the last checkpoint, None for a new run.
    show : callable
        Takes a line for the user; called on every rank.
    """

    spec: Spec
    parts: Parts
    saver: Saver
    tree: Mapping[str, Any] | None
    show: Callable[[str], None]


@dataclass(frozen=True)
class Solved:
    """A fit's answer and how it was reached.

    Parameters
    ----------
    model : Model
    solver, why : str
        The method, and why it was taken.
    n_iter : int
    converged : bool
    reason : str
        Why it ended, a sentence.
    deterministic : bool
        The bits are promised: no clock and no order of arrival had a part in them.
    objective : float
    certificate : float
    facts : mapping
        What else result.json says.
    about : mapping
        What else the model file says.
    """

    model: Model
    solver: str
    why: str
    n_iter: int
    converged: bool
    reason: str
    deterministic: bool
    objective: float
    certificate: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
