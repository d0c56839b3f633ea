"""State as nested dictionaries, and back: what a checkpoint holds."""

from __future__ import annotations

import types
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator
from hpcml.collectives.gathering import on_first

__all__ = ["Sharded", "Transient", "from_tree", "gathered", "to_tree"]


class Sharded(NamedTuple):
    """The part of a state that belongs to runs of shards.

    Attributes
    ----------
    rows : (my runs, n) array
        In order; those of all runs in a state that comes from a checkpoint.
    """

    rows: NDArray[np.float64]

    def own(self, runs: range, n_runs: int) -> NDArray[np.float64]:
        """Return the rows of this process's runs. Local."""
        is_whole = len(self.rows) == n_runs != len(runs)
        return self.rows[runs.start : runs.stop] if is_whole else self.rows


class Transient(NamedTuple):
    """The part of a state that a pass over the rows gives again: no checkpoint holds it.

    Attributes
    ----------
    rows : (my runs, n) array
        None, (0, 0), in a state that comes from a checkpoint.
    """

    rows: NDArray[np.float64]


def gathered(comm: Communicator, state: Any) -> Any:
    """Return the state with the rows of all processes on the first one. Collective, two messages each."""
    if isinstance(state, Sharded):
        width = state.rows.shape[1]
        return Sharded(on_first(comm, state.rows.reshape(-1)).reshape(-1, width))
    if isinstance(state, Transient):
        return Transient(np.zeros((0, 0)))
    if hasattr(state, "_replace"):
        parts = state._asdict()
        return state._replace(**{name: gathered(comm, value) for name, value in parts.items()})
    return state


def to_tree(state: Any) -> Any:
    """Return nested NamedTuples as nested dictionaries of arrays and numbers. Local."""
    if hasattr(state, "_asdict"):
        return {name: to_tree(value) for name, value in state._asdict().items()}
    return state


def from_tree(kind: Any, tree: Any) -> Any:
    """Return the NamedTuple `kind` from a dictionary, field by field. Local.

    Fields annotated with a NamedTuple are built likewise; a field annotated Any stays as it is.

    Raises
    ------
    TypeError, KeyError
        The dictionary lacks a field, or has one too many.
    """
    if isinstance(kind, types.UnionType) or not hasattr(kind, "_fields"):
        return tree
    hints = get_type_hints(kind)
    if set(tree) != set(kind._fields):
        raise KeyError(f"{kind.__name__} has the fields {kind._fields}, not {tuple(tree)}")
    return kind(**{name: from_tree(hints[name], tree[name]) for name in kind._fields})
