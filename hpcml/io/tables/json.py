"""JSON lines as columns: one flat object a line; a key that is missing is a missing value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.convert.recipe import Recipe
from hpcml.io.tables.columns import ArrowColumns, Columns, pyarrow
from hpcml.io.tables.part import BadRow, TablePart, Used, make_part, parsing, used_columns
from hpcml.io.tables.text import Segment

__all__ = ["read_objects"]

_BLOCK_BYTES = 4 << 20
_LINE = re.compile(rb"^[ \t\r]*\{.*\}[ \t\r]*$", re.MULTILINE)
_BLANK = re.compile(rb"^[ \t\r]*(?:\n|\Z)", re.MULTILINE)


def read_objects(
    comm: Communicator, files: Sequence[Path], segments: list[Segment], recipe: Recipe
) -> TablePart:
    """Return this rank's part of a table of JSON lines. Collective, about six small messages.

    The columns are the keys that occur, in the order of their first lines.

    Raises
    ------
    DataError
        With the data row: a line that is no JSON object, a list or an object as a value, a key that is there
        twice. Or a key has numbers and texts.
    """
    tables: list[tuple[Path, Any]] = []
    bad: BadRow | None = None
    with agreed(comm):
        try:
            for path, table in _tables(files, segments):
                tables.append((path, table))
        except BadRow as error:
            bad = error
    kinds = [pair for _, table in tables for pair in _kinds(table).items()]
    said = comm.allgather([kinds, bad is not None])
    used = Used({}, [], [])
    with agreed(comm):
        # A bad row is told of first, by make_part: the columns behind it are not known.
        if not any(part[1] for part in said):
            used = _used(files[0], [pair for part in said for pair in part[0]], recipe)
    pieces = [(path, _columns(table, used.columns)) for path, table in tables]
    return make_part(comm, pieces, bad, used)


def _used(path: Path, kinds: list[tuple[str, str]], recipe: Recipe) -> Used:
    """Return what is used of all keys that occur, which must have values of one kind each."""
    _refuse_mixed(path, kinds)
    names = list(dict.fromkeys(name for name, _ in kinds))
    if not names:
        raise DataError(f"{path}: no line has a key and a value")
    return used_columns(recipe, names)


def _tables(files: Sequence[Path], segments: list[Segment]) -> Iterator[tuple[Path, Any]]:
    """Yield the Arrow table of each segment."""
    before = 0
    for segment in segments:
        path = files[segment.file]
        text = segment.text.removeprefix(b"\xef\xbb\xbf") if segment.start else segment.text
        table = _table(path, text, before)
        before += table.num_rows
        yield path, table


def _table(path: Path, text: bytes, before: int) -> Any:
    pa = pyarrow()
    if not text.strip():
        return pa.table({})
    try:
        with parsing(path):
            table = _parsed(text)
    except DataError:
        _check_lines(path, text, before)
        raise
    if table.num_rows != sum(1 for _ in _LINE.finditer(text)) or _odd_lines(text, table.num_rows):
        _check_lines(path, text, before)
    for field in table.schema:
        if pa.types.is_nested(field.type):
            _check_lines(path, text, before)
    return table


def _odd_lines(text: bytes, n_rows: int) -> bool:
    """Return whether the lines that are not blank are other than `n_rows`."""
    n_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    return n_lines - sum(1 for match in _BLANK.finditer(text) if match[0]) != n_rows


def _parsed(text: bytes) -> Any:
    """Return the table; texts that look like times stay texts."""
    pa = pyarrow()
    table = _read(text, None)
    times = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    if not times:
        return table
    return _read(text, pa.schema([(name, pa.string()) for name in times])).select(table.column_names)


def _read(text: bytes, schema: Any) -> Any:
    pa = pyarrow()
    parse = pa.json.ParseOptions(explicit_schema=schema)

    def read(block_size: int) -> Any:
        options = pa.json.ReadOptions(use_threads=False, block_size=block_size)
        return pa.json.read_json(pa.BufferReader(text), options, parse)

    try:
        return read(_BLOCK_BYTES)
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
        return read(min(len(text) + 1, 2**31 - 1))


def _check_lines(path: Path, text: bytes, before: int) -> None:
    """Raise a BadRow for the first line that is no flat object, or a DataError for a key of several kinds."""
    row = before
    for line in text.split(b"\n"):
        if not line.strip():
            continue
        try:
            problem = _problem(json.loads(line, object_pairs_hook=tuple))
        except (ValueError, RecursionError) as error:
            problem = f"no JSON object: {error}"
        if problem:
            raise BadRow(path, row, f"{problem}: {line[:60].decode('utf-8', 'replace')!r}")
        row += 1
    kinds = [pair for line in text.split(b"\n") if line.strip() for pair in _kinds_of(json.loads(line))]
    _refuse_mixed(path, kinds)


def _kinds_of(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    names = {bool: "bool", int: "number", float: "number", str: "text"}
    return ((key, names.get(type(value), "null")) for key, value in values.items())


def _problem(value: Any) -> str:
    """Return what is wrong with a parsed line; objects are tuples of pairs."""
    if not isinstance(value, tuple):
        return "no JSON object"
    keys = [pair[0] for pair in value]
    twice = [key for key in keys if keys.count(key) > 1]
    nested = [key for key, inner in value if isinstance(inner, (list, tuple))]
    if twice:
        return f"the key {twice[0]!r} twice"
    return f"a list or an object as {nested[0]!r} (write flat objects)" if nested else ""


def _columns(table: Any, used: list[str]) -> Columns:
    """Return the columns that are used; a key that this rank never saw is missing in all rows."""
    pa = pyarrow()
    arrays = [
        table[name] if name in table.column_names else pa.nulls(table.num_rows, pa.float64()) for name in used
    ]
    columns = ArrowColumns(pa.table(arrays, names=used), untyped=False)
    columns.n_rows = table.num_rows  # without a column Arrow counts no rows
    return columns


def _kinds(table: Any) -> dict[str, str]:
    columns = ArrowColumns(table, untyped=False)
    return {name: columns.kind(name) for name in table.column_names}


def _refuse_mixed(path: Path, kinds: Sequence[tuple[str, str]]) -> None:
    """Raise a DataError where a key has values of different kinds."""
    found: dict[str, set[str]] = {}
    for name, kind in kinds:
        found.setdefault(name, set()).update({kind} - {"null"})
    for name, several in found.items():
        if len(several) > 1:
            raise DataError(
                f"{path}: the key {name!r} has values of different kinds: {', '.join(sorted(several))}"
            )
