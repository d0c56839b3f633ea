"""A tree and the schema make a spec: unknown keys, types, ranges, availability, rules inside sections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache
from typing import Any, NoReturn

from hpcml.spec.fields import Key, Misfit, keys_of
from hpcml.spec.kinds import Mismatch, got
from hpcml.spec.schema import Spec
from hpcml.spec.tree import (
    Branch,
    FrozenMap,
    Listing,
    Scalar,
    Tree,
    Where,
    fail,
    is_null,
    join,
    lookup,
    shown,
)

__all__ = ["build", "dotted_keys"]

_PEERS_WORDS = {
    "ftol": "solver.tol",
    "lambda": "model.alpha",
    "max_epochs": "solver.max_iter",
    "maxiter": "solver.max_iter",
    "nprocs": "resources.ntasks",
    "queue": "resources.partition",
    "random_state": "seed",
    "regularization": "model.penalty",
    "test_size": "data.split.test",
    "walltime": "resources.time",
}


def build(tree: Branch) -> Spec:
    """Return the spec of a tree whose references are substituted."""
    builder = _Builder()
    spec = builder.section(Spec, tree, "")
    assert isinstance(spec, Spec)
    return replace(spec, _origins=FrozenMap(builder.origins))


class _Builder:
    """Walks tree and schema together; `origins` tells where each leaf came from."""

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}

    def section(self, cls: type[Any], branch: Branch, path: str) -> Any:
        """Return the instance of one section."""
        keys = dict(keys_of(cls))
        for name, child in branch.entries.items():
            if name not in keys:
                _refuse_unknown(name, child.where, path)
        values = {name: self._value(entry, branch, path, name) for name, entry in keys.items()}
        given = frozenset(name for name, child in branch.entries.items() if not is_null(child))
        self._settle(cls, values, given, branch, path)
        return cls(**values)

    def _settle(
        self, cls: type[Any], values: dict[str, Any], given: frozenset[str], branch: Branch, path: str
    ) -> None:
        """Apply the rules that join the keys of a section."""
        if not hasattr(cls, "settle"):
            return
        try:
            cls.settle(values, given)
        except Misfit as error:
            node = lookup(branch, error.key)
            fail(node.where if node else branch.where, join(path, error.key), error.sentence)

    def _value(self, entry: Key, branch: Branch, path: str, name: str) -> Any:
        """Return the value of one key, given or by default."""
        node = branch.entries.get(name)
        path = join(path, name)
        if entry.section is not None:
            return self._nested(entry, node, branch.where, path)
        self.origins[path] = _origin(node)
        if node is None and entry.required:
            fail(
                branch.where, path, f"this key is required but missing; add '{name}: ...' ({_wanted(entry)})"
            )
        if entry.steps is not None:
            return self._steps(entry.steps, node, path)
        return entry.default if node is None else _leaf(entry, node, path)

    def _nested(self, entry: Key, node: Tree | None, where: Where, path: str) -> Any:
        """Return a nested section; an empty one is its defaults, or None when it is optional."""
        assert entry.section is not None
        if entry.optional and is_null(node):
            self.origins[path] = _origin(node)
            return None
        instance = self.section(entry.section, _branch(entry, node, where, path), path)
        if entry.later and node is not None:
            fail(node.where, path, "this section is not available in this version; leave it out")
        return instance

    def _steps(
        self, classes: Mapping[str, type[Any] | None], node: Tree | None, path: str
    ) -> tuple[Any, ...]:
        """Return the steps of a list of one-step maps."""
        if node is None or is_null(node):
            return ()
        if not isinstance(node, Listing):
            fail(node.where, path, f"{got(node)} does not fit; write a list of steps, as in [standardize]")
        seen: set[str] = set()
        return tuple(self._step(classes, item, path, index, seen) for index, item in enumerate(node.items))

    def _step(
        self, classes: Mapping[str, type[Any] | None], item: Tree, path: str, index: int, seen: set[str]
    ) -> Any:
        """Return one step."""
        name, options = _named_step(item, join(path, str(index)))
        cls = classes.get(name)
        if cls is None:
            _refuse_step(classes, name, item.where, join(path, str(index)))
        if name in seen:
            fail(item.where, join(path, str(index)), f"{name} is there twice; write each step once")
        seen.add(name)
        return self.section(cls, options, join(path, name))


def _origin(node: Tree | None) -> str:
    """Return where a key's value came from."""
    return "default" if node is None else str(node.where)


def _wanted(entry: Key) -> str:
    """Return what a missing key takes."""
    return entry.kind.text if entry.kind is not None else "a map"


def _branch(entry: Key, node: Tree | None, where: Where, path: str) -> Branch:
    """Return the map of a section, spelled out if it was given by its shorthand."""
    if isinstance(node, Branch):
        return node
    if node is None or is_null(node):
        return Branch({}, where if node is None else node.where)
    if entry.shorthand and isinstance(node, Scalar):
        return Branch({entry.shorthand: node}, node.where)
    assert entry.section is not None
    names = ", ".join([name for name, _ in keys_of(entry.section)][:3])
    fail(node.where, path, f"{got(node)} does not fit; write a map with keys such as {names}")


def _leaf(entry: Key, node: Tree, path: str) -> Any:
    """Return the value of a leaf, which must keep its default if it is for a later version."""
    assert entry.kind is not None
    try:
        value = entry.kind.read(node)
    except Mismatch as error:
        fail(error.where or node.where, join(path, error.below) if error.below else path, error.sentence)
    if entry.later and value != entry.default:
        default = _default_text(entry)
        fail(node.where, path, f"this key is not available in this version; leave it out or write {default}")
    return value


def _default_text(entry: Key) -> str:
    """Return the default of a key as it may be written."""
    assert entry.kind is not None
    plain = entry.kind.plain(entry.default)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _named_step(item: Tree, path: str) -> tuple[str, Branch]:
    """Return the name and the options of a step: a map of one key, or the name alone."""
    if isinstance(item, Scalar) and item.tag == "str":
        return item.text, Branch({}, item.where)
    if not isinstance(item, Branch) or len(item.entries) != 1:
        what = "a map of several keys" if isinstance(item, Branch) and item.entries else got(item)
        fail(item.where, path, f"{what} does not fit; write one step, as in - standardize: {{}}")
    [(name, options)] = item.entries.items()
    if is_null(options):
        return name, Branch({}, options.where)
    if not isinstance(options, Branch):
        fail(options.where, join(path, name), f"{got(options)} does not fit; write the options as a map")
    return name, options


def _refuse_step(classes: Mapping[str, type[Any] | None], name: str, where: Where, path: str) -> NoReturn:
    """Refuse a step that does not exist, now or at all."""
    if name in classes:
        available = ", ".join(step for step, cls in classes.items() if cls is not None)
        fail(where, path, f"step {shown(name)} is not available in this version (available: {available})")
    nearest = max(classes, key=lambda step: SequenceMatcher(None, name[:64], step).ratio())
    fail(where, path, f"unknown step {shown(name)}; did you mean {nearest}?")


@cache
def dotted_keys() -> tuple[str, ...]:
    """Return every dotted key of the schema, sections included."""
    return tuple(_dotted(Spec, ""))


def _dotted(cls: type[Any], path: str) -> Iterable[str]:
    """Yield the dotted keys below a section."""
    for name, entry in keys_of(cls):
        yield join(path, name)
        if entry.section is not None:
            yield from _dotted(entry.section, join(path, name))
        for step, step_class in (entry.steps or {}).items():
            yield from _dotted(step_class, join(join(path, name), step)) if step_class else ()


def _refuse_unknown(name: str, where: Where, path: str) -> NoReturn:
    """Refuse a key that the schema does not know, naming the nearest one that it does."""
    nearest = _PEERS_WORDS.get(name.lower().replace("-", "_"))
    if nearest is None:
        nearest = _nearest(name[:64], path)
    fail(where, join(path, name), f"unknown key; did you mean {nearest}?")


def _nearest(name: str, path: str) -> str:
    """Return the dotted key most like `name`, with a bonus for keys of the same section."""

    def likeness(candidate: str) -> float:
        parent, _, leaf = candidate.rpartition(".")
        return SequenceMatcher(None, name.lower(), leaf.lower()).ratio() + 0.35 * (parent == path)

    return max(dotted_keys(), key=likeness)
