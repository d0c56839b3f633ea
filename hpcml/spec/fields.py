"""How the schema is written down: dataclass fields that carry their kind, doc line and availability."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from hpcml.spec.kinds import Kind

__all__ = ["Key", "Misfit", "key", "keys_of", "schema", "section", "steps"]

_METADATA = "hpcml"
_REQUIRED = object()
_Class = TypeVar("_Class")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def schema(cls: type[_Class]) -> type[_Class]:
    """Make a class of keys a frozen dataclass with keyword arguments."""
    return dataclass(frozen=True, kw_only=True)(cls)


class Misfit(ValueError):
    """Keys of one section that do not go together; `key` is the one to point at."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key
        self.sentence = sentence


@dataclass(frozen=True)
class Key:
    """One key of the schema.

    A leaf has a `kind`; a map of keys has a `section`, which is None in the spec when it is `optional` and
    absent, and whose `shorthand` key may be given alone; a list of steps has `steps` by name. A key that is
    `later` is checked and must keep its default. `shown` names a default that is computed.
    """

    doc: str
    kind: Kind | None = None
    section: type[Any] | None = None
    steps: Mapping[str, type[Any] | None] | None = None
    default: Any = _REQUIRED
    later: bool = False
    optional: bool = False
    shorthand: str = ""
    shown: str = ""

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.default is _REQUIRED


def key(
    kind: Kind,
    default: Any = _REQUIRED,
    *,
    doc: str,
    later: bool = False,
    shown: str = "",
    compare: bool = True,
) -> Any:
    """Return the dataclass field of a leaf."""
    entry = Key(doc, kind=kind, default=default, later=later, shown=shown)
    if entry.required:
        return dataclasses.field(compare=compare, metadata={_METADATA: entry})
    return dataclasses.field(default=default, compare=compare, metadata={_METADATA: entry})


def section(
    cls: type[Any], *, doc: str, later: bool = False, optional: bool = False, shorthand: str = ""
) -> Any:
    """Return the dataclass field of a nested map of keys."""
    entry = Key(doc, section=cls, later=later, optional=optional, shorthand=shorthand)
    if optional:
        return dataclasses.field(default=None, metadata={_METADATA: entry})
    if any(inner.required and inner.section is None for _, inner in keys_of(cls)):
        return dataclasses.field(metadata={_METADATA: entry})
    return dataclasses.field(default_factory=cls, metadata={_METADATA: entry})


def steps(classes: Mapping[str, type[Any] | None], *, doc: str) -> Any:
    """Return the dataclass field of a list of named steps; a name without a class is for a later version."""
    return dataclasses.field(default=(), metadata={_METADATA: Key(doc, steps=classes, default=())})


def keys_of(cls: type[Any]) -> Iterator[tuple[str, Key]]:
    """Yield the keys of a section in the order of the schema."""
    for field in dataclasses.fields(cls):
        if _METADATA in field.metadata:
            yield field.name, field.metadata[_METADATA]
