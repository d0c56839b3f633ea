"""Read tables in parallel: each rank its own contiguous part of the rows of all files, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.recipe import Recipe
from hpcml.io.tables_bytes import Segment, Span, deal_spans, find_record, move_borders, read_range, reading
from hpcml.io.tables_columns import ArrowColumns, Columns, NumpyColumns, UnusableValue, common_kind, pyarrow

__all__ = ["Piece", "TablePart", "read_part"]

_SUFFIXES = {".csv": "csv", ".csv.gz": "csv", ".csv.zip": "csv", ".parquet": "parquet", ".npy": "npy"}
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Rows of one file on one rank; `start` counts the rows of all files from 0."""

    path: Path
    start: int
    columns: Columns


@dataclass(frozen=True)
class TablePart:
    """Rows of this rank, and the table's columns with their role, or None, and their kind."""

    pieces: list[Piece]
    n_samples: int
    roles: dict[str, str | None]
    kinds: dict[str, str]


@dataclass
class _Stored:
    """What a rank holds before the columns are chosen: CSV text, spans of other files, and names."""

    formats: list[str]
    spans: list[Span]
    segments: list[Segment] = field(default_factory=list)


class _RaggedRow(Exception):
    """A CSV row with another number of fields, after `rows` good rows of this rank."""

    def __init__(self, path: Path, rows: int, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.rows = rows


def read_part(comm: Communicator, files: Sequence[Path], sizes: Sequence[int], recipe: Recipe) -> TablePart:
    """Read this rank's part of the columns that the recipe uses.

    Collective, about sixteen small messages; of the data, only the head of a byte range moves.

    Parameters
    ----------
    comm : Communicator
    files : sequence of Path
        Their rows follow each other.
    sizes : sequence of int
        Bytes of each file, the same on every rank.
    recipe : Recipe

    Raises
    ------
    DataError
        A file is damaged or of no known format; columns are missing, doubled or differ between files; a row
        has another number of fields.
    """
    stored = _read_stored(comm, files, sizes, recipe)
    names = _agree_names(comm, files, stored)
    roles = recipe.roles(names[0])
    used = [*roles, *([] if recipe.target is None else [recipe.target])]
    pieces, ragged = [], None
    with agreed(comm):
        try:
            for path, columns in _parsed(files, stored, names, used):
                pieces.append((path, columns))
        except _RaggedRow as error:
            ragged = error
    return _numbered(comm, pieces, ragged, roles, used)


def _read_stored(comm: Communicator, files: Sequence[Path], sizes: Sequence[int], recipe: Recipe) -> _Stored:
    """Return this rank's spans, with the text of CSV files. Collective."""
    with agreed(comm):
        formats = [_format_of(path, recipe.format) for path in files]
        stored = _Stored(formats, deal_spans(sizes, comm.rank, comm.size))
        for span in stored.spans:
            if formats[span.file] == "csv":
                text = read_range(files[span.file], span)
                stored.segments.append(Segment(span.file, span.start == 0, text))
    if "csv" in stored.formats:
        stored.segments = move_borders(comm, stored.segments, files)
    return stored


def _format_of(path: Path, asked: str) -> str:
    if asked != "auto":
        return asked
    suffixes = path.suffixes[-2:] if path.suffix.lower() in (".gz", ".zip") else path.suffixes[-1:]
    found = _SUFFIXES.get("".join(suffixes).lower())
    if found is None:
        known = ", ".join(_SUFFIXES)
        raise DataError(f"the suffix of {path} says no format (known are {known}): set data.format")
    return found


def _agree_names(comm: Communicator, files: Sequence[Path], stored: _Stored) -> list[list[str]]:
    """Return each file's columns: the same ones, in any order. Collective, three messages."""
    mine: list[list[Any]] = []
    with agreed(comm):
        for segment in stored.segments:
            if segment.start:
                mine.append([segment.file, _csv_names(files[segment.file], segment.text)])
        for span in stored.spans:
            if stored.formats[span.file] != "csv" and span.start == 0:
                with _opened(files[span.file], stored.formats[span.file]) as table:
                    mine.append([span.file, _names_of(table)])
    named = {file: names for part in comm.allgather(mine) for file, names in part}
    for i, path in enumerate(files):
        _check_names(path, named.get(i, []), named.get(0, []))
    return [named[i] for i in range(len(files))]


def _check_names(path: Path, names: list[str], first: list[str]) -> None:
    if not names:
        raise DataError(f"{path} is empty: not even a header is there")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]!r}")
    other = sorted(set(names) ^ set(first))
    if other:
        raise DataError(f"{path} and the first file differ in their columns: {', '.join(other)}")


def _csv_names(path: Path, text: bytes) -> list[str]:
    """Return the column names in the first record that is not empty."""
    pa = pyarrow()
    skipped = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    while text[skipped : skipped + 1] in (b"\r", b"\n"):
        skipped += 1
    end = find_record(text[skipped:], False)
    header = text[skipped:] if end < 0 else text[skipped : skipped + end]
    if not header:
        return []
    with _parsing(path):
        options = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip")
        return list(pa.csv.read_csv(pa.py_buffer(header), _read_options(), options).column_names)


def _read_options(**options: Any) -> Any:
    # One thread: the cores of a node belong to its ranks, and an error then knows its row.
    return pyarrow().csv.ReadOptions(use_threads=False, **{"block_size": _BLOCK_BYTES, **options})


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Turn what Arrow says of bad input into a DataError."""
    pa = pyarrow()
    try:
        with reading(path):
            yield
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "; text must be UTF-8" if "UTF8" in problem or isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path}: {problem[:200]}{hint}") from error


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Any]:
    """Give the ParquetFile or the array in a file."""
    if kind == "npy":
        try:
            with reading(path):
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        if not isinstance(rows, np.ndarray) or rows.ndim != (1 if rows.dtype.names else 2):
            raise DataError(f"{path} must hold a two-dimensional or a structured array")
        yield rows
        return
    with _parsing(path), pyarrow().parquet.ParquetFile(path) as table:
        yield table


def _names_of(table: Any) -> list[str]:
    if isinstance(table, np.ndarray):
        return list(table.dtype.names or (f"x{i}" for i in range(table.shape[1])))
    return [str(name) for name in table.schema_arrow.names]


def _parsed(
    files: Sequence[Path], stored: _Stored, names: list[list[str]], used: list[str]
) -> Iterator[tuple[Path, Columns]]:
    """Yield this rank's pieces in the order of the files."""
    segments = {segment.file: segment for segment in stored.segments}
    before = 0
    for span in stored.spans:
        path, kind = files[span.file], stored.formats[span.file]
        if kind == "csv":
            if span.file not in segments:
                continue
            columns = _csv_columns(path, segments[span.file], names[span.file], used, before)
        else:
            columns = _typed_columns(path, kind, span, used)
        before += columns.n_rows
        yield path, columns


def _csv_columns(path: Path, segment: Segment, names: list[str], used: list[str], before: int) -> Columns:
    """Parse whole records; every column stays text, for a part alone cannot say a column's type."""
    pa, bad = pyarrow(), []

    def handler(row: Any) -> str:
        bad.append(row)
        return "error"

    header = {} if segment.start else {"column_names": names}
    parse = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=handler)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(used, pa.string()), include_columns=used, strings_can_be_null=True
    )
    text = pa.py_buffer(segment.text)
    with _parsing(path):
        try:
            table = pa.csv.read_csv(text, _read_options(**header), parse, convert)
        except pa.ArrowInvalid as error:
            if bad:
                row = bad[0]
                count = f"{row.actual_columns} fields where {row.expected_columns} are expected"
                at = before + row.number - (2 if segment.start else 1)
                raise _RaggedRow(path, at, f"{count}: {row.text[:60]!r}") from None
            if "straddling" not in str(error):
                raise
            # A record longer than a block: one block then holds all.
            options = _read_options(block_size=min(len(segment.text) + 1, 2**31 - 1), **header)
            table = pa.csv.read_csv(text, options, parse, convert)
    return ArrowColumns(table, untyped=True)


def _typed_columns(path: Path, kind: str, span: Span, used: list[str]) -> Columns:
    """Read the rows of an array, or the row groups of a Parquet file, that begin in a span."""
    with _opened(path, kind) as table:
        if kind == "npy":
            first, last = (-(-len(table) * at // span.size) for at in (span.start, span.stop))
            return NumpyColumns(table[first:last])
        groups = [g for g, at in enumerate(_group_starts(table, span.size)) if span.start <= at < span.stop]
        return ArrowColumns(table.read_row_groups(groups, columns=used, use_threads=False), untyped=False)


def _group_starts(table: Any, size: int) -> NDArray[np.int64]:
    """Return where row groups begin, their bytes stretched over the file's size."""
    metadata = table.metadata
    n_bytes = [metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups)]
    total = max(sum(n_bytes), 1)
    starts = np.cumsum([0, *n_bytes])[:-1]
    return np.array([min(int(start) * size // total, size - 1) for start in starts], np.int64)


def _numbered(
    comm: Communicator,
    pieces: list[tuple[Path, Columns]],
    ragged: _RaggedRow | None,
    roles: dict[str, str | None],
    used: list[str],
) -> TablePart:
    """Give rows their global numbers, and columns the kind that all pieces agree on. Collective."""
    n_rows = ragged.rows if ragged else sum(columns.n_rows for _, columns in pieces)
    kinds: dict[str, str] = {}
    with agreed(comm):
        if not ragged:
            kinds = {name: _kind_of(pieces, name) for name in used if roles.get(name) != "categorical"}
    said = comm.allgather([n_rows, kinds])
    start = sum(part[0] for part in said[: comm.rank])
    with agreed(comm):
        if ragged:
            raise DataError(f"{ragged.path}: data row {start + ragged.rows} (the first is 0) has {ragged}")
    numbered = []
    for path, columns in pieces:
        numbered.append(Piece(path, start, columns))
        start += columns.n_rows
    whole = {name: common_kind([part[1][name] for part in said]) for name in kinds}
    return TablePart(numbered, sum(part[0] for part in said), roles, whole)


def _kind_of(pieces: list[tuple[Path, Columns]], name: str) -> str:
    kinds = []
    for path, columns in pieces:
        try:
            kinds.append(columns.kind(name))
        except UnusableValue as error:
            raise DataError(f"{path}: column {name!r}: {error}") from None
    return common_kind(kinds)
