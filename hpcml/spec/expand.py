"""Composition of specs: ``extends``, and ``${vars.x}``, ``${env:NAME,default}``, ``${name}``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hpcml.spec.document import parse_document, read_text
from hpcml.spec.tree import Branch, Listing, Scalar, Tree, Where, fail, is_null, join, merged, shown

__all__ = ["MAX_FILES", "escaped", "extended", "substituted"]

MAX_FILES = 32
MAX_EXPANSION = 1 << 20

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?:,(.*))?", re.DOTALL)
_WORD_TAGS = {"true": "bool", "false": "bool", "null": "null"}


def extended(tree: Branch) -> tuple[Branch, tuple[Path, ...]]:
    """Return the tree laid over the files that its ``extends`` names, and those files.

    Later files win over earlier ones, and the tree wins over all of them.
    """
    loader = _Extender()
    return loader.extended(tree, ()), tuple(loader.files)


class _Extender:
    """Follows ``extends`` with a bound on the number of files and a guard against circles."""

    def __init__(self) -> None:
        self.files: list[Path] = []

    def extended(self, tree: Branch, chain: tuple[Path, ...]) -> Branch:
        """Return `tree` over its bases; `chain` holds the files being read."""
        rest = {name: node for name, node in tree.entries.items() if name != "extends"}
        result: Tree = Branch({}, tree.where)
        for entry in _entries(tree.entries.get("extends")):
            result = merged(result, self._base(entry, chain))
        result = merged(result, replace(tree, entries=rest))
        assert isinstance(result, Branch)
        return result

    def _base(self, entry: Scalar, chain: tuple[Path, ...]) -> Branch:
        """Return the tree of one base file, itself extended."""
        path = Path(os.path.abspath(entry.where.directory / entry.text))
        if path in chain:
            fail(entry.where, "extends", f"{shown(entry.text)} extends itself; remove it from the circle")
        if len(self.files) >= MAX_FILES:
            fail(entry.where, "extends", f"too many files are read; extend at most {MAX_FILES}")
        self.files.append(path)
        source = os.path.normpath(os.path.join(os.path.dirname(entry.where.source), entry.text))
        tree = parse_document(read_text(path), source=source, directory=path.parent)
        return self.extended(tree, (*chain, path))


def _entries(node: Tree | None) -> tuple[Scalar, ...]:
    """Return the file names of an ``extends``, a text or a list; only ``${env:..}`` is known there."""
    if node is None or is_null(node):
        return ()
    node = _Substitution(Branch({}, node.where)).tree(node, "extends")
    items = node.items if isinstance(node, Listing) else (node,)
    for item in items:
        if not isinstance(item, Scalar) or item.tag in ("null", "bool") or not item.text:
            fail(item.where, "extends", "the value does not fit; write a file name or a list of file names")
    return tuple(item for item in items if isinstance(item, Scalar))


def escaped(text: str) -> str:
    """Return `text` such that substitution gives it back: one more ``$`` before each ``${``."""
    return text.replace("${", "$${")


def substituted(tree: Branch) -> Branch:
    """Return the tree with every reference replaced by what it names."""
    result = _Substitution(tree).tree(tree, "")
    assert isinstance(result, Branch)
    return result


class _Substitution:
    """Replaces references; the text that it makes is bounded in total."""

    def __init__(self, root: Branch) -> None:
        self._root = root
        self._busy: list[str] = []
        self._done: dict[str, Tree] = {}
        self._budget = MAX_EXPANSION

    def tree(self, node: Tree, path: str) -> Tree:
        """Return `node` with its scalars substituted; keys are left as they are."""
        if isinstance(node, Branch):
            return replace(
                node,
                entries={name: self.tree(child, join(path, name)) for name, child in node.entries.items()},
            )
        if isinstance(node, Listing):
            items = (self.tree(item, join(path, str(index))) for index, item in enumerate(node.items))
            return replace(node, items=tuple(items))
        return self._scalar(node, path) if "${" in node.text else node

    def _scalar(self, node: Scalar, path: str) -> Tree:
        """Return one scalar; a reference that is the whole text keeps the type of what it names."""
        whole = _REFERENCE.fullmatch(node.text)
        if whole and whole[1] is not None:
            return self._value(whole[1], node.where, path)
        text = _REFERENCE.sub(lambda match: self._text(match, node.where, path), node.text)
        return replace(node, text=text, tag="str")

    def _text(self, match: re.Match[str], where: Where, path: str) -> str:
        """Return the text that one reference inside a longer text stands for."""
        if match[0] == "$${":
            return "${"
        if match[1] is None:
            fail(where, path, "'${' is not closed; write ${vars.NAME}, ${env:NAME} or $${ for the bare text")
        value = self._value(match[1], where, path)
        if not isinstance(value, Scalar) or value.tag == "null":
            fail(where, path, f"{shown(match[0])} is not a single value; write it alone or name a scalar")
        return value.text

    def _value(self, name: str, where: Where, path: str) -> Tree:
        """Return the node that a reference names, placed where it is used."""
        value = self._found(name, where, path)
        self._budget -= _size(value)
        if self._budget < 0:
            fail(where, path, "the substitutions grow beyond 1 MiB; make the values shorter")
        return replace(value, where=where)

    def _found(self, name: str, where: Where, path: str) -> Tree:
        """Return what `name` stands for: a variable, the environment or the spec's name."""
        environment = _ENVIRONMENT.fullmatch(name)
        if environment:
            return _from_environment(environment, where, path)
        if name.startswith("vars."):
            return self._variable(name.removeprefix("vars."), where, path)
        if name == "name" and path == "output.dir":
            given = self._root.entries.get("name")
            named = isinstance(given, Scalar) and given.tag != "null"
            return self.tree(given, "name") if given and named else Scalar("", "str", where)
        reference = shown("${" + name + "}")
        fail(
            where,
            path,
            f"{reference} is unknown; write ${{vars.NAME}}, ${{env:NAME,default}}, ${{name}} "
            f"(in output.dir only), or $${{...}} to keep the text",
        )

    def _variable(self, name: str, where: Where, path: str) -> Tree:
        """Return the substituted value of ``vars.NAME``."""
        if name not in self._done:
            self._done[name] = self._resolved(name, where, path)
        return self._done[name]

    def _resolved(self, name: str, where: Where, path: str) -> Tree:
        """Return the value of a variable that was not asked for before."""
        table = self._root.entries.get("vars")
        node = table.entries.get(name) if isinstance(table, Branch) else None
        if node is None or isinstance(node, Branch):
            fail(where, path, f"the variable {shown('vars.' + name)} is not a value; define it under 'vars:'")
        if name in self._busy:
            fail(where, path, f"the variable {shown('vars.' + name)} refers to itself; give it a plain value")
        self._busy.append(name)
        value = self.tree(node, join("vars", name))
        self._busy.pop()
        return value


def _from_environment(match: re.Match[str], where: Where, path: str) -> Scalar:
    """Return the value of an environment variable, or the default of the reference."""
    text = _environment().get(match[1], match[2])
    if text is None:
        fail(
            where,
            path,
            f"the environment variable {match[1]} is not set; set it or write ${{env:{match[1]},default}}",
        )
    return Scalar(text, _WORD_TAGS.get(text, "str"), where)


def _environment() -> Mapping[str, str]:
    """Return the process environment."""
    return os.environ


def _size(node: Tree) -> int:
    """Return how much a substituted value adds, in characters."""
    if isinstance(node, Scalar):
        return len(node.text) + 1
    children = node.items if isinstance(node, Listing) else tuple(node.entries.values())
    return 1 + sum(_size(child) for child in children)
