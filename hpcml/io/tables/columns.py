"""Columns of a piece of a table as NumPy arrays: numbers with NaN where missing, or codes of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError

__all__ = ["ArrowColumns", "Columns", "NumpyColumns", "UnusableValue", "common_kind", "pyarrow"]

_BOOLEANS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}


class UnusableValue(Exception):
    """A value that cannot be used as asked: its row in the piece, and what is wrong."""

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(problem)
        self.row = row


class Columns(Protocol):
    """One piece of a table; everything is Local.

    A *kind* is what a column's values are: "number", "bool", "text", or "null" where all are missing.
    """

    n_rows: int

    def kind(self, name: str) -> str:
        """Return the kind of the column in this piece."""

    def numbers(self, name: str, kind: str) -> NDArray[np.float64]:
        """Return the column as numbers, NaN where missing; `kind` is that of the whole table's column."""

    def texts(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a code for each row, -1 where missing, and the texts that the codes number."""


def common_kind(kinds: Sequence[str]) -> str:
    """Return the kind of a column whose pieces have `kinds`. Local."""
    known = set(kinds) - {"null"}
    if not known:
        return "null"
    return known.pop() if len(known) == 1 else "text"


@lru_cache(maxsize=1)
def pyarrow() -> Any:
    """Return pyarrow, which only CSV and Parquet need. Local.

    Raises
    ------
    DataError
        It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.json
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            "CSV, JSON lines, libsvm and Parquet need pyarrow: pip install 'hpcml[parquet]'"
        ) from error
    return pyarrow


class ArrowColumns:
    """Columns of an Arrow table.

    Parameters
    ----------
    table : pyarrow.Table
    untyped : bool
        Columns are texts, or numbers made of texts, whose kind their values say.
    as_text : callable, optional
        Gives the texts that a column of numbers was made of.
    """

    def __init__(self, table: Any, *, untyped: bool, as_text: Callable[[str], Any] | None = None) -> None:
        self.n_rows = int(table.num_rows)
        self._table = table
        self._untyped = untyped
        self._as_text = as_text
        self._nulled: dict[str, Any] = {}
        self._parsed: dict[str, NDArray[np.float64] | None] = {}

    def kind(self, name: str) -> str:
        """Return the kind of the column. Local."""
        column, types = self._present(name), pyarrow().types
        if column.null_count == self.n_rows:
            return "null"
        if types.is_boolean(column.type):
            return "bool"
        if not self._untyped:
            return "number" if _is_number(column.type) else "text"
        if self._parse(name) is not None:
            return "number"
        return "bool" if set(column.unique().to_pylist()) <= {None, *_BOOLEANS} else "text"

    def numbers(self, name: str, kind: str) -> NDArray[np.float64]:
        """Return the column as numbers, NaN where missing. Local."""
        if kind == "bool" and _is_text(self._table[name].type):
            codes, texts = self.texts(name)
            return np.array([*(_BOOLEANS[text] for text in texts), np.nan])[codes]
        parsed = self._parse(name)
        if parsed is None:
            raise self._first_unusable(name)
        return parsed

    def texts(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return codes and the texts that they number. Local."""
        pa, column = pyarrow(), self._table[name]
        if self._as_text is not None and not _is_text(column.type):
            column = self._as_text(name)
        if pa.types.is_floating(column.type):
            column = pa.compute.if_else(pa.compute.is_nan(column), None, column)
        if not _is_text(column.type):
            column = self._cast(column, pa.string())
            if column is None:
                raise UnusableValue(0, f"type {self._table[name].type} is neither numbers nor text")
        encoded = column.dictionary_encode().unify_dictionaries()
        if encoded.num_chunks == 0:
            return np.zeros(0, np.int32), []
        codes = np.concatenate([_filled(chunk.indices, np.int32, -1) for chunk in encoded.chunks])
        texts = encoded.chunk(0).dictionary.to_pylist()
        return _without(codes, texts, _missing_texts()) if self._untyped else (codes, texts)

    def _present(self, name: str) -> Any:
        """Return the column with nulls where texts say that a value is missing."""
        column = self._table[name]
        if not (self._untyped and _is_text(column.type)):
            return column
        if name not in self._nulled:
            pa = pyarrow()
            lost = pa.compute.is_in(column, value_set=pa.array(_missing_texts()))
            self._nulled[name] = pa.compute.if_else(lost, pa.scalar(None, column.type), column)
        return self._nulled[name]

    def _parse(self, name: str) -> NDArray[np.float64] | None:
        """Return the column as numbers, or None where a value is none."""
        if name not in self._parsed:
            pa, column = pyarrow(), self._present(name)
            if pa.types.is_boolean(column.type):
                column = column.cast(pa.uint8())
            cast = self._cast(column, pa.float64())
            if cast is None and _is_text(column.type) and self._trimmed(column.slice(0, 64)) is not None:
                cast = self._trimmed(column)
            self._parsed[name] = None if cast is None else _joined(cast)
        return self._parsed[name]

    def _trimmed(self, column: Any) -> Any:
        """Return texts without the spaces around them as numbers, or None."""
        pa = pyarrow()
        return self._cast(pa.compute.utf8_trim_whitespace(column), pa.float64())

    @staticmethod
    def _cast(column: Any, kind: Any) -> Any:
        pa = pyarrow()
        try:
            # Integers above 2^53 are rounded: that is what float64 means.
            return column.cast(kind, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None

    def _first_unusable(self, name: str) -> UnusableValue:
        """Return the first value that is no number, found by halving."""
        pa, column = pyarrow(), self._present(name)
        if not _is_text(column.type):
            return UnusableValue(0, f"type {column.type} is not numbers")
        column = pa.compute.utf8_trim_whitespace(column)
        good = _longest(lambda n: self._cast(column.slice(0, n), pa.float64()) is not None, self.n_rows)
        return UnusableValue(good, f"{_shown(self._table[name][good].as_py())} is not a number")


def _missing_texts() -> list[str]:
    """Return what CSV may say for a missing value."""
    return list(pyarrow().csv.ConvertOptions().null_values)


def _without(
    codes: NDArray[np.int32], texts: list[str], left_out: list[str]
) -> tuple[NDArray[np.int32], list[str]]:
    """Return codes and texts without some texts, whose codes become -1."""
    kept = [text for text in texts if text not in left_out]
    places = {text: i for i, text in enumerate(kept)}
    return np.array([*(places.get(text, -1) for text in texts), -1], np.int32)[codes], kept


def _longest(works: Callable[[int], bool], n: int) -> int:
    """Return the largest m < n for which works(m), where works(0) and not works(n)."""
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


def _joined(column: Any) -> NDArray[np.float64]:
    """Return a column of doubles as an array, NaN where missing."""
    return np.concatenate([np.zeros(0), *(_filled(chunk, np.float64, np.nan) for chunk in column.chunks)])


def _filled(values: Any, dtype: type, missing: float) -> NDArray[Any]:
    """Return an Arrow array as NumPy's, with `missing` for nulls: Arrow's own ways there import pandas."""
    out = _buffer(values, dtype)
    if values.null_count:
        bits = np.frombuffer(values.buffers()[0], np.uint8)
        there = np.unpackbits(bits, count=values.offset + len(values), bitorder="little")[values.offset :]
        out = np.where(there, out, dtype(missing))
    return out


def _buffer(values: Any, dtype: type) -> NDArray[Any]:
    if len(values) == 0:
        return np.zeros(0, dtype)
    return np.frombuffer(values.buffers()[1], dtype)[values.offset : values.offset + len(values)]


def _is_text(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_number(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _shown(value: object) -> str:
    """Return a value for a sentence, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[0]}"


class NumpyColumns:
    """Columns of a structured or a two-dimensional array, whose columns are x0, x1, ..."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.n_rows = int(rows.shape[0])
        self._rows = rows

    def kind(self, name: str) -> str:
        """Return the kind of the column. Local."""
        values = self._column(name)
        if not (self.n_rows and not _missing(values).all()):
            return "null"
        return {"b": "bool", "U": "text", "S": "text"}.get(values.dtype.kind, "number")

    def numbers(self, name: str, kind: str) -> NDArray[np.float64]:
        """Return the column as numbers, NaN where missing. Local."""
        values = self._column(name)
        if values.dtype.kind not in "US":
            return values.astype(np.float64)
        numbers = np.full(self.n_rows, np.nan)
        for row in np.flatnonzero(~_missing(values)):
            try:
                numbers[row] = float(values[row])
            except ValueError:
                raise UnusableValue(int(row), f"{_shown(values[row].item())} is not a number") from None
        return numbers

    def texts(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return codes and the texts that they number. Local."""
        values = self._column(name)
        missing = _missing(values)
        distinct, codes = np.unique(values[~missing], return_inverse=True)
        out = np.full(self.n_rows, -1, np.int32)
        out[~missing] = codes
        return out, [_text(value) for value in distinct.tolist()]

    def _column(self, name: str) -> NDArray[Any]:
        values = np.asarray(self._rows[name] if self._rows.dtype.names else self._rows[:, int(name[1:])])
        if values.ndim != 1 or values.dtype.kind not in "biufUS":
            raise UnusableValue(0, f"type {values.dtype} is neither numbers nor text")
        return values


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a value is NaN, or an empty text."""
    lost: NDArray[np.bool_] = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        lost = np.isnan(values)
    elif values.dtype.kind in "US":
        lost = values == values.dtype.type()
    return lost


def _text(value: object) -> str:
    """Return a value as CSV would write it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
