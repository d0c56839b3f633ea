"""State as nested dictionaries, and back: what a checkpoint holds."""

from __future__ import annotations

import types
from typing import Any, get_type_hints

__all__ = ["from_tree", "to_tree"]


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
