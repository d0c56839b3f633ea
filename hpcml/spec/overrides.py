"""Overrides of the command line: ``KEY=VALUE``, ``+KEY=VALUE`` and ``~KEY``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hpcml.spec.document import parse_value
from hpcml.spec.tree import Branch, Listing, Scalar, Tree, Where, fail, is_null, join, merged, shown

__all__ = ["SOURCE", "overridden"]

SOURCE = "command line"

_FORM = re.compile(r"(\+?)([^=~+\s][^=\s]*)=(.*)", re.DOTALL)
_REMOVAL = re.compile(r"~([^=\s]+)")
_LAYOUT = ("resources.nodes", "resources.ntasks_per_node")


@dataclass(frozen=True)
class _Override:
    """One change: set, add to, or (without a value) remove the key at `path`."""

    path: str
    value: Tree | None
    add: bool
    where: Where


def overridden(tree: Branch, overrides: Sequence[str], directory: Path) -> Branch:
    """Return the tree with the overrides applied in order; later ones win.

    An override of nodes or ranks per node clears a total number of ranks that the file gives.
    """
    where = Where(SOURCE, None, directory)
    changes = [_parsed(text, where) for text in overrides]
    result: Tree | None = _without_total(tree, {change.path for change in changes})
    for change in changes:
        result = _changed(result, change.path.split("."), change, "")
    assert isinstance(result, Branch)
    return result


def _parsed(text: str, where: Where) -> _Override:
    """Return the override that one argument spells."""
    if removal := _REMOVAL.fullmatch(text):
        return _Override(_path(removal[1], where), None, False, where)
    match = _FORM.fullmatch(text)
    if match is None:
        fail(where, "", f"{shown(text)} is not an override; write KEY=VALUE, +KEY=VALUE or ~KEY")
    path = _path(match[2], where)
    return _Override(path, parse_value(match[3], where, path), match[1] == "+", where)


def _path(path: str, where: Where) -> str:
    """Return a dotted path that can be overridden."""
    if not all(path.split(".")):
        fail(where, "", f"{shown(path)} is not a dotted key; write it as in solver.max_iter")
    if path.split(".")[0] == "extends":
        fail(where, path, "base files cannot be overridden; write extends in the file")
    return path


def _without_total(tree: Branch, paths: set[str]) -> Branch:
    """Return the tree without ``resources.ntasks`` if the overrides say the layout instead."""
    resources = tree.entries.get("resources")
    if not isinstance(resources, Branch) or not paths.intersection(_LAYOUT):
        return tree
    rest = {name: node for name, node in resources.entries.items() if name != "ntasks"}
    return replace(tree, entries={**tree.entries, "resources": replace(resources, entries=rest)})


def _changed(node: Tree | None, names: Sequence[str], change: _Override, path: str) -> Tree | None:
    """Return a node with the change applied at the path `names` below it; None removes it."""
    if not names:
        return _leaf(node, change)
    if path == "preprocessing" and isinstance(node, Listing):
        return _changed_step(node, names, change, path)
    if path == "preprocessing" and is_null(node):
        _refuse_step(names[0], change)
    if node is not None and not isinstance(node, Branch) and not is_null(node):
        fail(change.where, change.path, f"{path} is not a map; write {path}={{...}} to replace it")
    entries = dict(node.entries) if isinstance(node, Branch) else {}
    child = _changed(entries.get(names[0]), names[1:], change, join(path, names[0]))
    entries.pop(names[0], None)
    if child is not None:
        entries[names[0]] = child
    return Branch(entries, node.where if isinstance(node, Branch) else change.where)


def _leaf(node: Tree | None, change: _Override) -> Tree | None:
    """Return what the changed key holds."""
    if change.value is None:
        if node is None:
            fail(change.where, change.path, "the file does not say this key; remove only keys that it says")
        return None
    return _added(node, change.value, change) if change.add else change.value


def _added(node: Tree | None, value: Tree, change: _Override) -> Tree:
    """Return a list with more entries, a map with more keys, or the value where there was nothing."""
    if isinstance(node, Listing):
        more = value.items if isinstance(value, Listing) else (value,)
        return Listing((*node.items, *more), change.where)
    if isinstance(node, Branch) and isinstance(value, Branch):
        return merged(node, value)
    if is_null(node):
        return value
    fail(change.where, change.path, f"+ adds to lists and maps; write {change.path}=VALUE to set this key")


def _changed_step(node: Listing, names: Sequence[str], change: _Override, path: str) -> Tree:
    """Return the list of steps with one of them changed, found by name or by index."""
    index = _step_index(node, names[0], change)
    name, options = _step(node.items[index], change)
    rest = names[1:]
    if not rest:
        return _replaced_step(node, index, name, change)
    if rest[0] == name and names[0].isdecimal():
        rest = rest[1:]
    changed = _changed(options, rest, change, f"{path}.{name}")
    step = Branch({name: changed or Branch({}, change.where)}, node.items[index].where)
    return replace(node, items=(*node.items[:index], step, *node.items[index + 1 :]))


def _replaced_step(node: Listing, index: int, name: str, change: _Override) -> Tree:
    """Return the list with a whole step removed, or its options replaced or added to."""
    before, item, after = node.items[:index], node.items[index], node.items[index + 1 :]
    if change.value is None:
        return replace(node, items=(*before, *after))
    value = change.value
    if not (isinstance(value, Branch) and list(value.entries) == [name]):
        value = Branch({name: value}, change.where)
    return replace(node, items=(*before, merged(item, value) if change.add else value, *after))


def _step_index(node: Listing, name: str, change: _Override) -> int:
    """Return which step a name or an index means."""
    if name.isdecimal() and len(name) < 6:
        if int(name) >= len(node.items):
            _refuse_step(name, change)
        return int(name)
    found = [index for index, item in enumerate(node.items) if name == _step(item, change)[0]]
    if not found:
        _refuse_step(name, change)
    if len(found) > 1:
        fail(change.where, change.path, f"several steps are called {name}; write their index instead")
    return found[0]


def _refuse_step(name: str, change: _Override) -> NoReturn:
    """Refuse a step that the list does not have."""
    fail(
        change.where,
        change.path,
        f"no step is called {shown(name)}; add one with +preprocessing=[standardize]",
    )


def _step(item: Tree, change: _Override) -> tuple[str, Tree | None]:
    """Return the name and the options of a step."""
    if isinstance(item, Branch) and len(item.entries) == 1:
        [(name, options)] = item.entries.items()
        return name, options
    if isinstance(item, Scalar):
        return item.text, None
    fail(change.where, change.path, "the list in the file holds something that is not a step; mend it first")
