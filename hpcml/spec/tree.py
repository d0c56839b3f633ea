"""The parsed form of a spec: scalars, maps and lists that remember where they were written.

Scalars keep the text of the file and not the value that YAML 1.1 makes of it, so that each key of the schema
decides what ``012``, ``1:30:00`` or ``2024-01-01`` means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from hpcml.errors import SpecError

__all__ = [
    "Branch",
    "FrozenMap",
    "Listing",
    "Scalar",
    "Tree",
    "Where",
    "fail",
    "is_null",
    "join",
    "lookup",
    "merged",
    "shown",
]

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Where:
    """A place that a value comes from, and the directory that its relative paths start at."""

    source: str
    line: int | None
    directory: Path

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Scalar:
    """A leaf: its text as written, and the tag YAML gave it (null, bool, int, float, str, timestamp)."""

    text: str
    tag: str
    where: Where


@dataclass(frozen=True)
class Branch:
    """A map with text keys."""

    entries: Mapping[str, Tree]
    where: Where


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: tuple[Tree, ...]
    where: Where


Tree: TypeAlias = Scalar | Branch | Listing


class FrozenMap(Mapping[str, Any]):
    """A hashable, read-only map, kept in the order of its keys so that equal maps print alike."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = dict(sorted((items or {}).items()))

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"


def shown(text: str) -> str:
    """Return `text` quoted, on one line and of bounded length, for an error message."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
    return repr(cut)


def fail(where: Where, path: str, sentence: str) -> NoReturn:
    """Raise the `SpecError` that names the place and the key."""
    label = shown(path) if len(path) > _SHOWN_CHARACTERS or not path.isprintable() else path
    raise SpecError(f"{where}: {label}: {sentence}" if path else f"{where}: {sentence}")


def join(path: str, name: str) -> str:
    """Return the dotted path of key `name` below `path`."""
    return f"{path}.{name}" if path else name


def is_null(node: Tree | None) -> bool:
    """Tell whether a key is absent or was left empty."""
    return node is None or (isinstance(node, Scalar) and node.tag == "null")


def lookup(tree: Tree, path: str) -> Tree | None:
    """Return the node at a dotted path of maps, or None."""
    node: Tree | None = tree
    for name in path.split("."):
        node = node.entries.get(name) if isinstance(node, Branch) else None
    return node


def merged(base: Tree, top: Tree) -> Tree:
    """Return `base` overlaid by `top`: maps merge, everything else is replaced.

    A section that `top` names but leaves empty keeps what `base` says.
    """
    if isinstance(base, Branch) and is_null(top):
        return base
    if not (isinstance(base, Branch) and isinstance(top, Branch)):
        return top
    entries = dict(base.entries)
    for name, node in top.entries.items():
        entries[name] = merged(entries[name], node) if name in entries else node
    return replace(top, entries=entries)
