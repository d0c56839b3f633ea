"""What is done to a table before it is encoded: casts, fills, derived columns, clips, row filters.

Every step looks at one row at a time, so its result does not depend on how the rows lie over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.data import RowSelection
from hpcml.errors import SpecError
from hpcml.io.convert.columns import Column
from hpcml.io.convert.expression import Expression, near, parse

__all__ = ["CASTS", "Steps"]

CASTS = ("number", "integer", "boolean", "category")


@dataclass(frozen=True)
class Steps:
    """Steps over the rows of a table, done in the order in which they stand here.

    Parameters
    ----------
    cast : mapping of str to {"number", "integer", "boolean", "category"}
        How columns are taken. integer: rounded toward zero; boolean: 1 where the number is not 0.
    fill : mapping of str to float or str
        What stands for a missing value of a column.
    derive : mapping of str to str
        Expression of each new column, or of one that is replaced; a later one sees the earlier ones.
    clip : mapping of str to (float or None, float or None)
        Values below the first become the first, those above the second the second.
    filter : tuple of str
        Rows are kept where every expression is true; where one is missing they are not.
    fraction : float
        Share of the rows that is kept, chosen by the number of the row in the sources.
    seed : int
        Of that choice.

    Raises
    ------
    SpecError
        An expression cannot be understood; a value is not allowed.
    """

    cast: Mapping[str, str] = field(default_factory=dict)
    fill: Mapping[str, float | str] = field(default_factory=dict)
    derive: Mapping[str, str] = field(default_factory=dict)
    clip: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    filter: tuple[str, ...] = ()
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in self.cast.items():
            if kind not in CASTS:
                raise SpecError(f"cast: {name}: {kind!r} does not fit; choose from {', '.join(CASTS)}")
        for name, value in self.fill.items():
            if not (isinstance(value, str) or math.isfinite(value)):
                raise SpecError(f"fill: {name}: {value} does not fit; write a finite number or a text")
        for name, (low, high) in self.clip.items():
            if low is not None and high is not None and not low <= high:
                raise SpecError(f"clip: {name}: {low:g} is not below {high:g}; write [lowest, highest]")
        if not 0 < self.fraction <= 1:
            raise SpecError(f"sample: the fraction {self.fraction:g} is not in (0, 1]")
        _ = self._derived, self._filters

    @cached_property
    def _derived(self) -> dict[str, Expression]:
        return {name: parse(text) for name, text in self.derive.items()}

    @cached_property
    def _filters(self) -> list[Expression]:
        return [parse(text) for text in self.filter]

    @property
    def of_numbers(self) -> set[str]:
        """The columns of the table that steps take as numbers, whatever texts they hold by mistake."""
        filled = {name for name, value in self.fill.items() if not isinstance(value, str)}
        return filled | (set(self.clip) - set(self.derive))

    def describe(self) -> dict[str, Any]:
        """Return the steps that are there, as JSON can say them. Local."""
        said: dict[str, Any] = {
            "cast": dict(self.cast),
            "fill": {name: v if isinstance(v, str) else float(v) for name, v in self.fill.items()},
            "derive": [[name, text] for name, text in self.derive.items()],
            "clip": {
                name: [None if v is None else float(v) for v in pair] for name, pair in self.clip.items()
            },
            "filter": list(self.filter),
            "sample": [] if self.fraction == 1.0 else [self.fraction, self.seed],
        }
        return {name: value for name, value in said.items() if value}

    @classmethod
    def described(cls, said: Mapping[str, Any]) -> Steps:
        """Return the steps that `describe` told of. Local."""
        fraction, seed = said.get("sample") or (1.0, 0)
        return cls(
            cast=dict(said.get("cast", {})),
            fill=dict(said.get("fill", {})),
            derive=dict(said.get("derive", [])),
            clip={name: (low, high) for name, (low, high) in said.get("clip", {}).items()},
            filter=tuple(said.get("filter", ())),
            fraction=fraction,
            seed=seed,
        )

    def inputs(self, names: Sequence[str]) -> set[str]:
        """Return the columns of a table that the steps need. Local.

        Raises
        ------
        SpecError
            One of them is neither in the table nor derived before it is used.
        """
        known, used = list(names), {*self.cast, *self.fill}
        for name in used:
            if name not in known:
                raise SpecError(near(name, known))
        for name, expression in self._derived.items():
            used |= _known(expression, known)
            known.append(name)
        for expression in self._filters:
            used |= _known(expression, known)
        for name in self.clip:
            if name not in known:
                raise SpecError(f"clip: {near(name, known)}")
        return (used | set(self.clip)) & set(names)

    def apply(
        self, columns: dict[str, Column], rows: NDArray[np.int64]
    ) -> tuple[dict[str, Column], NDArray[np.bool_]]:
        """Return the columns after all steps, and which rows are kept. Local.

        Parameters
        ----------
        columns : dict of Column
        rows : (my rows,) array
            Number of each row in the sources.

        Raises
        ------
        SpecError
            A step does not fit the kind of its column.
        """
        columns = dict(columns)
        for name, kind in self.cast.items():
            columns[name] = _cast(columns[name], kind)
        for name, value in self.fill.items():
            columns[name] = _filled(columns[name], value)
        for name, expression in self._derived.items():
            columns[name] = expression.column(columns, rows.size, name)
        for name, (low, high) in self.clip.items():
            columns[name] = _clipped(columns[name], low, high)
        keep = RowSelection(self.seed, fraction=self.fraction).keeps(rows)
        for expression in self._filters:
            truth = expression.column(columns, rows.size)
            if truth.texts is not None:
                raise SpecError(f"filter: {expression.text!r} is text; compare it with a text")
            keep &= ~(np.isnan(truth.values) | (truth.values == 0))
        return columns, keep


def _known(expression: Expression, names: list[str]) -> set[str]:
    """Return the columns of an expression, which must be there."""
    for name in sorted(expression.names()):
        if name not in names:
            raise SpecError(f"{expression.text!r}: {near(name, names)} (texts are written in quotes)")
    return expression.names()


def _cast(column: Column, kind: str) -> Column:
    values = column.values
    if kind == "integer":
        values = np.trunc(values)
    elif kind == "boolean":
        values = np.where(np.isnan(values), np.nan, values != 0)
    return Column(column.name, values, column.texts)


def _filled(column: Column, value: float | str) -> Column:
    if column.texts is None:
        if isinstance(value, str):
            raise SpecError(f"fill: column {column.name!r} has numbers, and {value!r} is none")
        return Column(column.name, np.where(column.missing, value, column.values))
    if not isinstance(value, str):
        raise SpecError(f"fill: column {column.name!r} has texts; write the value in quotes")
    texts = column.texts if value in column.texts else [*column.texts, value]
    code = np.int32(texts.index(value))
    return Column(column.name, np.where(column.missing, code, column.values), texts)


def _clipped(column: Column, low: float | None, high: float | None) -> Column:
    if column.texts is not None:
        raise SpecError(f"clip: column {column.name!r} has texts, not numbers")
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    return Column(column.name, np.clip(column.values, *bounds))
