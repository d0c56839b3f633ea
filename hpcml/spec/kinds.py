"""What a value may be: each `Kind` turns a node into a typed value, or says in a sentence what would fit."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from hpcml.spec.tree import Branch, FrozenMap, Listing, Scalar, Tree, Where, is_null, shown

__all__ = [
    "Interval",
    "Kind",
    "Mismatch",
    "anything",
    "boolean",
    "choice",
    "fixed",
    "got",
    "integer",
    "list_of",
    "map_of",
    "number",
    "number_of",
    "optional",
    "path",
    "refuse",
    "scalar",
    "text",
    "thaw",
]

INTEGER_LIMIT = 2**63
_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F_]*[0-9a-fA-F]")
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_TRUE = frozenset({"true", "yes", "on"})


class Mismatch(ValueError):
    """A node does not fit its key; `where` and `below` narrow the place inside a list or a map."""

    def __init__(self, sentence: str, where: Where | None = None, below: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.where = where
        self.below = below


def thaw(value: Any) -> Any:
    """Return a value of the spec as plain, JSON-able data."""
    if isinstance(value, Mapping):
        return {name: thaw(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class Kind:
    """A type of value: `text` names it, `read` makes it from a node, `plain` writes it back."""

    text: str
    read: Callable[[Tree], Any]
    plain: Callable[[Any], Any] = thaw


@dataclass(frozen=True)
class Interval:
    """A range of numbers, written as in mathematics: ``[0, 1)``, ``(0, inf)``."""

    low: float
    high: float
    open_low: bool
    open_high: bool

    @classmethod
    def parse(cls, notation: str) -> Interval:
        """Return the interval of a notation."""
        low, high = notation[1:-1].split(",")
        return cls(float(low), float(high), notation[0] == "(", notation[-1] == ")")

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.low == -float("inf"):
            bounded = f" {'<' if self.open_high else '<='} {self.high:g}"
            return "" if self.high == float("inf") else bounded
        if self.high == float("inf"):
            return f" {'>' if self.open_low else '>='} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f" in {left}{self.low:g}, {self.high:g}{right}"


def got(node: Tree) -> str:
    """Return how to name what was given."""
    if isinstance(node, Branch):
        return "a map"
    if isinstance(node, Listing):
        return "a list"
    if node.tag == "bool" and node.text.lower() not in ("true", "false"):
        return f"{shown(node.text)} (which YAML reads as {_truth(node)})"
    if node.tag == "int" and ":" in node.text:
        return f"{shown(node.text)} (which YAML reads as a number to the base 60)"
    return "null" if node.tag == "null" else shown(node.text)


def _truth(node: Scalar) -> str:
    """Return the boolean that YAML makes of a word."""
    return "true" if node.text.lower() in _TRUE else "false"


def refuse(node: Tree, wanted: str) -> NoReturn:
    """Raise the `Mismatch` that says what was given and what would fit."""
    raise Mismatch(f"{got(node)} does not fit; write {wanted}")


def scalar(node: Tree, wanted: str, *, words: bool = False) -> str:
    """Return the text of a scalar that is neither null nor a bare boolean word."""
    if isinstance(node, Scalar) and node.tag == "bool" and words:
        refuse(node, f"{wanted}, in quotes if you mean the word")
    if not isinstance(node, Scalar) or node.tag == "null":
        refuse(node, wanted)
    return node.text


def number_of(node: Tree, wanted: str) -> float | int:
    """Return the finite number that a node's text spells, whatever YAML made of it."""
    if not isinstance(node, Scalar) or node.tag in ("null", "bool", "timestamp"):
        refuse(node, wanted)
    if _OCTAL.fullmatch(node.text):
        cure = node.text.replace("_", "").lstrip("+-0") or "0"
        raise Mismatch(f"{shown(node.text)} starts with 0, which YAML reads to the base 8; write {cure}")
    if len(node.text) > 64:
        refuse(node, wanted)
    if _HEXADECIMAL.fullmatch(node.text):
        return int(node.text.replace("_", ""), 16)
    if not _NUMBER.fullmatch(node.text):
        refuse(node, wanted)
    return _parsed(node, node.text.replace("_", ""), wanted)


def _parsed(node: Scalar, digits: str, wanted: str) -> float | int:
    """Return the number that plain digits spell, which must be finite."""
    try:
        return int(digits)
    except ValueError:
        value = float(digits)
    if value in (float("inf"), -float("inf")):
        refuse(node, wanted)
    return value + 0.0


def number(notation: str = "(-inf, inf)") -> Kind:
    """Return the kind of finite floats within an interval."""
    interval = Interval.parse(notation)
    name = f"number{interval}"

    def read(node: Tree) -> float:
        value = float(number_of(node, f"a {name}")) + 0.0
        if value not in interval:
            refuse(node, f"a {name}")
        return value

    return Kind(name, read)


def integer(notation: str = "(-inf, inf)") -> Kind:
    """Return the kind of whole numbers within an interval; ``1e3`` is one."""
    interval = Interval.parse(notation)
    name = f"integer{interval}"

    def read(node: Tree) -> int:
        value = number_of(node, f"an {name}")
        if value not in interval or value != int(value) or abs(value) >= INTEGER_LIMIT:
            refuse(node, f"an {name}")
        return int(value)

    return Kind(name, read)


def fixed(value: int) -> Kind:
    """Return the kind of a number that has one value in this version."""
    whole = integer("[1, inf)")

    def read(node: Tree) -> int:
        given: int = whole.read(node)
        if given != value:
            raise Mismatch(f"{given} is not available in this version (available: {value})")
        return given

    return Kind(str(value), read)


def boolean() -> Kind:
    """Return the kind of true and false."""

    def read(node: Tree) -> bool:
        if not isinstance(node, Scalar) or node.tag != "bool" or node.text.lower() not in _BOOLEANS:
            refuse(node, "true or false, without quotes")
        return _truth(node) == "true"

    return Kind("true or false", read)


_BOOLEANS = frozenset({"true", "yes", "on", "false", "no", "off"})


def text(pattern: str = "", *, name: str = "text", lines: bool = False) -> Kind:
    """Return the kind of texts: of one line unless `lines`, matching `pattern` if there is one."""
    empty = "" if lines else " that is not empty"

    def read(node: Tree) -> str:
        value = scalar(node, name, words=True)
        if pattern and not re.fullmatch(pattern, value, re.ASCII):
            refuse(node, name)
        if not lines and not value:
            refuse(node, name + empty)
        if not printable(value, "\n\t" if lines else ""):
            refuse(node, f"{name} without control characters" + ("" if lines else ", on one line"))
        return value

    return Kind(name.removeprefix("a "), read)


def printable(value: str, allowed: str) -> bool:
    """Tell whether a text has no control characters or lone surrogates besides the allowed ones."""
    refused = ("Cc", "Cs") if "\n" in allowed else ("Cc", "Cs", "Zl", "Zp")
    return all(letter in allowed or unicodedata.category(letter) not in refused for letter in value)


def choice(*options: str, later: tuple[str, ...] = ()) -> Kind:
    """Return the kind of an enumeration; hyphens and underscores are the same in what is given."""
    spelled = {_folded(option): option for option in (*options, *later)}
    alternatives = _alternatives(options)
    name = alternatives + (f" (later: {', '.join(later)})" if later else "")

    def read(node: Tree) -> str:
        _refuse_boolean(node, options, alternatives)
        found = spelled.get(_folded(scalar(node, alternatives)))
        if found is None:
            refuse(node, alternatives + _nearest(node, spelled))
        if found in later:
            available = ", ".join(options)
            raise Mismatch(f"{shown(found)} is not available in this version (available: {available})")
        return found

    return Kind(name, read)


def _folded(word: str) -> str:
    """Return the form in which two spellings of an enumeration are compared."""
    return word.replace("-", "_")


def _alternatives(options: Iterable[str]) -> str:
    """Return words as 'a, b or c'."""
    *most, last = options
    return f"{', '.join(most)} or {last}" if most else last


def _refuse_boolean(node: Tree, options: tuple[str, ...], alternatives: str) -> None:
    """Refuse on, off, yes and no where a word of an enumeration belongs, with the cure."""
    if not isinstance(node, Scalar) or node.tag != "bool":
        return
    cure = "none" if "none" in options and _truth(node) == "false" else alternatives
    if node.text in options:
        cure = f'"{node.text}" in quotes'
    raise Mismatch(
        f"YAML reads {shown(node.text)} as {_truth(node)}, which does not fit; write {cure}"
        + (f" (one of {alternatives}, in quotes if it is on, off, yes or no)" if cure == "none" else "")
    )


def _nearest(node: Tree, spelled: Mapping[str, str]) -> str:
    """Return a hint when what was given is close to one of the options."""
    word = node.text[:64].lower() if isinstance(node, Scalar) else ""
    folded = {key.lower(): option for key, option in spelled.items()}
    match = get_close_matches(_folded(word), folded, n=1)
    return f" (did you mean {folded[match[0]]}?)" if match else ""


def path(*, absolute: bool = True) -> Kind:
    """Return the kind of file names, made absolute from the place they were written at unless told not to."""
    line = text(name="a path")

    def read(node: Tree) -> Path:
        value: str = line.read(node)
        if value.startswith("~") or re.match(r"\$[A-Za-z_]", value):
            refuse(node, "a path without ~ or $NAME, such as ${env:HOME}/NAME")
        return Path(os.path.abspath(node.where.directory / value)) if absolute else Path(value)

    return Kind("path", read)


def optional(kind: Kind, *, absent: Any = None) -> Kind:
    """Return `kind` or null, which reads as `absent`."""

    def read(node: Tree) -> Any:
        return absent if is_null(node) else kind.read(node)

    def plain(value: Any) -> Any:
        return None if value == absent else kind.plain(value)

    return Kind(f"{kind.text}, or null", read, plain)


def list_of(kind: Kind, *, distinct: bool = False, least: int = 0) -> Kind:
    """Return the kind of lists of one kind."""
    name = f"list of {kind.text}"

    def read(node: Tree) -> tuple[Any, ...]:
        if not isinstance(node, Listing):
            refuse(node, f"a {name}, as in [a, b]")
        values = tuple(_read_below(kind, item, str(index)) for index, item in enumerate(node.items))
        if len(values) < least:
            raise Mismatch(f"the list is empty; write a {name}")
        if distinct and len(set(values)) < len(values):
            raise Mismatch("the list names something twice; write each entry once")
        return values

    return Kind(name, read, lambda values: [kind.plain(value) for value in values])


def map_of(kind: Kind, pattern: str = "", *, name: str = "") -> Kind:
    """Return the kind of maps from words (matching `pattern`) to one kind."""
    name = name or f"map to {kind.text}"

    def read(node: Tree) -> FrozenMap:
        if is_null(node):
            return FrozenMap()
        if not isinstance(node, Branch):
            refuse(node, f"a {name}, as in {{a: b}}")
        return FrozenMap({key: entry(key, child) for key, child in node.entries.items()})

    def entry(key: str, child: Tree) -> Any:
        if not printable(key, "") or (pattern and not re.fullmatch(pattern, key, re.ASCII)):
            raise Mismatch(
                f"the name {shown(key)} does not fit; write a name of the form {pattern or 'text'}",
                child.where,
            )
        return _read_below(kind, child, key)

    return Kind(name, read)


def _read_below(kind: Kind, node: Tree, name: str) -> Any:
    """Return an entry of a list or map; its `Mismatch` carries the place of the entry."""
    try:
        return kind.read(node)
    except Mismatch as error:
        below = f"{name}.{error.below}" if error.below else name
        raise Mismatch(error.sentence, error.where or node.where, below) from None


def anything() -> Kind:
    """Return the kind of free values: numbers, booleans, null, texts, lists and maps."""
    line = text(lines=True, name="text or a number")
    names = text(name="a name")

    def read(node: Tree) -> Any:
        if isinstance(node, Listing):
            return tuple(_read_below(kind, item, str(index)) for index, item in enumerate(node.items))
        if isinstance(node, Branch):
            for name in node.entries:
                names.read(Scalar(name, "str", node.where))
            return FrozenMap({name: _read_below(kind, child, name) for name, child in node.entries.items()})
        if node.tag in ("null", "bool"):
            return None if node.tag == "null" else boolean().read(node)
        return _free(node)

    def _free(node: Scalar) -> Any:
        if node.tag not in ("int", "float"):
            return line.read(node)
        try:
            value = number_of(node, "a number")
        except Mismatch:
            return line.read(replace(node, tag="str"))
        return value if abs(value) < INTEGER_LIMIT else float(value)

    kind = Kind("any value", read)
    return kind
