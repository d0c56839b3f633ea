"""A spec as plain data and text: resolved, its scientific part, and the table of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpcml.spec.document import dump_yaml
from hpcml.spec.expand import escaped
from hpcml.spec.fields import Key, keys_of
from hpcml.spec.schema import Spec
from hpcml.spec.tree import join

__all__ = ["KeyRow", "describe", "render_yaml", "resolved", "science"]

_SCIENCE = ("task", "seed", "data", "preprocessing", "model", "solver")
_NOT_SCIENCE = {
    "data": ("path", "source", "io", "cache", "memory_limit", "allow_external"),
    "solver": ("metrics_every",),
}


def resolved(spec: Spec) -> dict[str, Any]:
    """Return the whole spec as nested, JSON-able data with every default filled. Local.

    Durations are texts such as ``600s``, sizes are bytes, and ``extends`` is empty, since the base files are
    already in it.
    """
    tree = _plain_section(spec)
    tree["extends"] = []
    return tree


def _plain_section(instance: Any) -> dict[str, Any]:
    """Return one section as plain data."""
    return {name: _plain(entry, getattr(instance, name)) for name, entry in keys_of(type(instance))}


def _plain(entry: Key, value: Any) -> Any:
    """Return the value of one key as plain data."""
    if entry.section is not None:
        return None if value is None else _plain_section(value)
    if entry.steps is not None:
        return [{step.name: _plain_section(step)} for step in value]
    assert entry.kind is not None
    return entry.kind.plain(value)


def render_yaml(tree: Mapping[str, Any]) -> str:
    """Return plain data as YAML text that reads back as the same data. Local."""
    return dump_yaml({name: _escaped(value) for name, value in tree.items()})


def _escaped(value: Any) -> Any:
    """Return plain data whose texts survive substitution; keys are never substituted."""
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return escaped(value) if isinstance(value, str) else value


def science(spec: Spec) -> dict[str, Any]:
    """Return the part of the spec that decides the answer, as JSON-able data. Local.

    No file name is in it: who hashes it adds the identity of the contents of ``data.path``, and of the test
    file when ``data.split.method`` is file.
    """
    tree = resolved(spec)
    part = {name: tree[name] for name in _SCIENCE}
    for name, keys in _NOT_SCIENCE.items():
        part[name] = {key: value for key, value in part[name].items() if key not in keys}
    if isinstance(spec.data.split.test, Path):
        part["data"]["split"] = {key: value for key, value in part["data"]["split"].items() if key != "test"}
    return part


class KeyRow(NamedTuple):
    """One key of the schema for a table."""

    key: str
    type: str
    default: str
    available: bool
    doc: str


def describe() -> list[KeyRow]:
    """Return every key of the schema with its type, default, availability and meaning. Local."""
    return list(_rows(Spec, "", True))


def _rows(cls: type[Any], path: str, available: bool) -> Iterator[KeyRow]:
    """Yield the rows of one section."""
    for name, entry in keys_of(cls):
        dotted = join(path, name)
        if entry.section is not None:
            yield from _rows(entry.section, dotted, available and not entry.later)
        elif entry.steps is not None:
            yield from _step_rows(entry, dotted)
        else:
            yield KeyRow(dotted, _type(entry), _default(entry), available and not entry.later, entry.doc)


def _step_rows(entry: Key, path: str) -> Iterator[KeyRow]:
    """Yield the rows of a list of steps."""
    steps = entry.steps or {}
    later = ", ".join(name for name, cls in steps.items() if cls is None)
    names = ", ".join(name for name, cls in steps.items() if cls is not None)
    yield KeyRow(path, f"list of steps: {names} (later: {later})", "[]", True, entry.doc)
    for name, cls in steps.items():
        if cls is not None:
            yield from _rows(cls, join(path, name), True)


def _type(entry: Key) -> str:
    """Return the name of a leaf's type."""
    return entry.kind.text if entry.kind is not None else ""


def _default(entry: Key) -> str:
    """Return the default of a leaf as it would be written."""
    if entry.shown:
        return entry.shown
    if entry.required or entry.kind is None:
        return "required"
    plain = entry.kind.plain(entry.default)
    return plain if isinstance(plain, str) and plain else json.dumps(plain)
