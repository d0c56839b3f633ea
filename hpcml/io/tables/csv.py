"""CSV text as columns: names, types guessed from the first rows, and whole records parsed by Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcml.io.tables.columns import ArrowColumns, Columns, pyarrow
from hpcml.io.tables.part import BadRow, parsing
from hpcml.io.tables.text import Segment, find_record

__all__ = ["csv_columns", "csv_names"]

_BLOCK_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 16


def csv_names(path: Path, text: bytes) -> list[str]:
    """Return the column names in the first record that is not empty. Local.

    Numbers, some of them twice, are no names but a row: then the columns are x0, x1, ... in order.
    """
    first = _first_record(path, text)
    return [f"x{i}" for i in range(len(first))] if _is_row(first) else first


def _first_record(path: Path, text: bytes) -> list[str]:
    pa = pyarrow()
    skipped = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    while text[skipped : skipped + 1] in (b"\r", b"\n"):
        skipped += 1
    end = find_record(text[skipped:], False)
    header = text[skipped:] if end < 0 else text[skipped : skipped + end]
    if not header:
        return []
    with parsing(path):
        options = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip")
        return list(pa.csv.read_csv(pa.py_buffer(header), _read_options(), options).column_names)


def _is_row(first: list[str]) -> bool:
    """Tell whether the first record is a row of numbers, not a header."""
    return len(set(first)) < len(first) and all(map(_is_number, first))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_options(**options: Any) -> Any:
    # One thread: the cores of a node belong to its ranks, and an error then knows its row.
    return pyarrow().csv.ReadOptions(use_threads=False, **{"block_size": _BLOCK_BYTES, **options})


def csv_columns(path: Path, segment: Segment, names: Sequence[str], used: list[str], before: int) -> Columns:
    """Parse whole records. Local.

    Columns whose first rows are numbers are parsed as such, which is the fast way; where that fails, or the
    texts are asked for later, they are parsed once more as texts: a part alone cannot say a column's kind.

    Parameters
    ----------
    path : Path
    segment : Segment
    names, used : sequence of str
        All columns of the file, and those to parse.
    before : int
        Rows of this rank that stand before the segment.

    Raises
    ------
    BadRow
        A row has another number of fields.
    DataError
        The text is not UTF-8, or no CSV.
    """
    text = _Text(path, segment, names, before)
    numeric = text.numeric(used)
    table = text.parsed(used, numeric) if numeric else None
    if table is None:
        return ArrowColumns(text.parsed(used, []), untyped=True)
    return ArrowColumns(table, untyped=True, as_text=lambda name: text.parsed([name], [])[name])


class _Text:
    """A run of records and how to parse them."""

    def __init__(self, path: Path, segment: Segment, names: Sequence[str], before: int) -> None:
        self._path, self._segment, self._before = path, segment, before
        self._has_header = segment.start and not _is_row(_first_record(path, segment.text))
        self._names = {} if self._has_header else {"column_names": list(names)}
        # Without quotes Arrow need not look for them, nor for line ends inside of them.
        self._quoting = {"newlines_in_values": True} if segment.has_quotes else {"quote_char": False}

    def numeric(self, used: list[str]) -> list[str]:
        """Return the columns whose first values are numbers, or missing."""
        pa, text = pyarrow(), self._segment.text
        end = len(text) if len(text) <= _SAMPLE_BYTES else text.rfind(b"\n", 0, _SAMPLE_BYTES) + 1
        convert = pa.csv.ConvertOptions(include_columns=used, strings_can_be_null=True)
        options = pa.csv.ParseOptions(**self._quoting, invalid_row_handler=lambda row: "skip")
        try:
            sample = pa.csv.read_csv(pa.py_buffer(text[:end]), _read_options(**self._names), options, convert)
        except (pa.ArrowException, KeyError):
            return []
        types = pa.types
        numbers = (types.is_integer, types.is_floating, types.is_null)
        return [field.name for field in sample.schema if any(is_one(field.type) for is_one in numbers)]

    def parsed(self, used: list[str], numeric: list[str]) -> Any:
        """Return the table, or None where a column is not `numeric` after all."""
        pa = pyarrow()
        types = {name: pa.float64() if name in numeric else pa.string() for name in used}
        # Which texts are missing values is asked later of each different text, not here of each row.
        convert = pa.csv.ConvertOptions(column_types=types, include_columns=used)
        with parsing(self._path):
            try:
                return self._read(convert, _BLOCK_BYTES)
            except pa.ArrowInvalid as error:
                if numeric and "conversion error" in str(error):
                    return None
                if "straddling" not in str(error):
                    raise
                # A record longer than a block: one block then holds all.
                return self._read(convert, min(len(self._segment.text) + 1, 2**31 - 1))

    def _read(self, convert: Any, block_size: int) -> Any:
        pa, bad = pyarrow(), []

        def handler(row: Any) -> str:
            bad.append(row)
            return "error"

        parse = pa.csv.ParseOptions(**self._quoting, invalid_row_handler=handler)
        options = _read_options(block_size=block_size, **self._names)
        try:
            return pa.csv.read_csv(pa.py_buffer(self._segment.text), options, parse, convert)
        except pa.ArrowInvalid:
            if not bad:
                raise
            row = bad[0]
            count = f"{row.actual_columns} fields where {row.expected_columns} are expected"
            at = self._before + row.number - (2 if self._has_header else 1)
            raise BadRow(self._path, at, f"{count}: {row.text[:60]!r}") from None
