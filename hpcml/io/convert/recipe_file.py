"""A recipe file: YAML text in, a checked Recipe out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpcml.io.convert.recipe import CHOICES
from hpcml.io.convert.steps import CASTS, Steps
from hpcml.spec.document import parse_document, read_text
from hpcml.spec.kinds import (
    Kind,
    Mismatch,
    choice,
    integer,
    list_of,
    map_of,
    number,
    number_of,
    optional,
    refuse,
    text,
)
from hpcml.spec.tree import Branch, Listing, Scalar, Tree, fail, is_null

__all__ = ["read_recipe"]

_NAME = text(name="a column name")
_NAMES = list_of(_NAME, distinct=True)
_EXPRESSION = text(name="an expression")


def _number_or_text() -> Kind:
    def read(node: Tree) -> float | str:
        if isinstance(node, Scalar) and node.tag in ("int", "float"):
            return float(number_of(node, "a number or a text"))
        return str(_NAME.read(node))

    return Kind("a number or a text", read)


def _bounds() -> Kind:
    def read(node: Tree) -> tuple[float | None, float | None]:
        if not isinstance(node, Listing) or len(node.items) != 2:
            refuse(node, "two bounds, as in [0, 10] or [null, 10]")
        low, high = (None if is_null(item) else float(number().read(item)) for item in node.items)
        return low, high

    return Kind("two bounds", read)


def _in_order(kind: Kind) -> Kind:
    """Return the kind of a map that keeps the order in which it is written."""

    def read(node: Tree) -> dict[str, Any]:
        if not isinstance(node, Branch):
            refuse(node, "a map of column names")
        return {
            name: dict(map_of(kind).read(Branch({name: child}, node.where)))[name]
            for name, child in node.entries.items()
        }

    return Kind("map", read)


def _sample(node: Tree) -> dict[str, Any]:
    if not isinstance(node, Branch) or not {"fraction"} <= set(node.entries) <= {"fraction", "seed"}:
        refuse(node, "a fraction and a seed, as in {fraction: 0.1, seed: 0}")
    seed = node.entries.get("seed")
    fraction = float(number("(0, 1]").read(node.entries["fraction"]))
    return {"fraction": fraction, "seed": 0 if seed is None else int(integer("[0, inf)").read(seed))}


_STEPS: Mapping[str, Callable[[Tree], Any]] = {
    "cast": _in_order(choice(*CASTS)).read,
    "fill": _in_order(_number_or_text()).read,
    "derive": _in_order(_EXPRESSION).read,
    "clip": _in_order(_bounds()).read,
    "filter": list_of(_EXPRESSION).read,
}
_KEYS: Mapping[str, Callable[[Tree], Any]] = {
    **dict.fromkeys(("select", "numeric", "categorical", "exclude"), _NAMES.read),
    "target": optional(_NAME).read,
    "threshold": optional(number()).read,
    "map": map_of(number()).read,
    **{name: choice(*allowed).read for name, allowed in CHOICES.items()},
    "features": optional(integer("[1, inf)")).read,
    "x": _NAME.read,
    "y": _NAME.read,
    "sample": _sample,
    **_STEPS,
}
_FIELDS = {"select": "include", "map": "mapping", "features": "n_features"}


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the parameters of `Recipe` that a file gives. Local.

    Raises
    ------
    SpecError
        With file, line and key: an unknown key, or a value that does not fit.
    """
    branch = parse_document(read_text(path), source=str(path), directory=path.parent)
    values = {name: _read(name, node) for name, node in branch.entries.items()}
    steps = {name: values.pop(name) for name in _STEPS if name in values}
    given = {_FIELDS.get(name, name): value for name, value in values.items() if name != "sample"}
    return {**given, "steps": Steps(**steps, **values.get("sample", {}))}


def _read(name: str, node: Tree) -> Any:
    if name not in _KEYS:
        close = get_close_matches(name, _KEYS, 1, 0.5)
        fail(
            node.where,
            name,
            f"unknown key; {f'did you mean {close[0]}?' if close else 'there are ' + ', '.join(_KEYS)}",
        )
    try:
        return _KEYS[name](node)
    except Mismatch as error:
        fail(error.where or node.where, f"{name}.{error.below}" if error.below else name, error.sentence)
