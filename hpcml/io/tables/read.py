"""Read tables in parallel: each rank its own contiguous part of the rows of all files, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.convert.recipe import Recipe
from hpcml.io.tables.columns import ArrowColumns, Columns, NumpyColumns, pyarrow
from hpcml.io.tables.csv import csv_columns, csv_names
from hpcml.io.tables.json import read_objects
from hpcml.io.tables.part import BadRow, TablePart, make_part, parsing, used_columns
from hpcml.io.tables.text import Segment, Span, deal_spans, read_segments, reading

__all__ = ["read_part", "table_formats"]

_PACKED = (".gz", ".zip")
_SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
    ".svmlight": "libsvm",
    ".parquet": "parquet",
    ".npy": "npy",
}
_TEXTS = ("csv", "jsonl", "libsvm")


@dataclass
class _Stored:
    """What a rank holds before the columns are chosen: CSV text, and spans of other files."""

    formats: list[str]
    spans: list[Span]
    segments: list[Segment]


def table_formats(comm: Communicator, files: Sequence[Path], asked: str) -> list[str]:
    """Return the format of each file. Collective, one message.

    Raises
    ------
    DataError
        A suffix says no format, or files of JSON lines or in libsvm format are mixed with others.
    """
    with agreed(comm):
        formats = [_format_of(path, asked) for path in files]
        for alone in ("jsonl", "libsvm"):
            if alone in formats and set(formats) != {alone}:
                other = next(path for path, one in zip(files, formats, strict=True) if one != alone)
                raise DataError(f"{other}: files of other formats cannot be joined with {alone} files")
    return formats


def _format_of(path: Path, asked: str) -> str:
    if asked != "auto":
        return asked
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _PACKED
    found = _SUFFIXES.get("".join(suffixes[-2:-1] if packed else suffixes[-1:]))
    if found is None or (packed and found not in _TEXTS):
        known = ", ".join(_SUFFIXES)
        raise DataError(
            f"the suffix of {path} says no format (known are {known}; texts also with .gz or .zip): "
            "set data.format"
        )
    return found


def read_part(
    comm: Communicator, files: Sequence[Path], sizes: Sequence[int], formats: list[str], recipe: Recipe
) -> TablePart:
    """Read this rank's part of the columns that the recipe uses.

    Collective, about sixteen small messages; of the data, only the head of a byte range moves.

    Parameters
    ----------
    comm : Communicator
    files : sequence of Path
        Their rows follow each other.
    sizes : sequence of int
        Bytes of each file, the same on every rank.
    formats : list of str
        Of each file, see `table_formats`.
    recipe : Recipe

    Raises
    ------
    DataError
        A file is damaged; columns are missing, doubled or differ between files; a row has another number of
        fields.
    """
    spans = deal_spans(sizes, comm.rank, comm.size)
    segments = read_segments(comm, files, spans, formats) if set(formats) & set(_TEXTS) else []
    if "jsonl" in formats:
        return read_objects(comm, files, segments, recipe)
    stored = _Stored(formats, spans, segments)
    names = _agree_names(comm, files, stored)
    with agreed(comm):
        used = used_columns(recipe, names[0])
    pieces, bad = [], None
    with agreed(comm):
        try:
            for path, columns in _parsed(files, stored, names, used.columns):
                pieces.append((path, columns))
        except BadRow as error:
            bad = error
    return make_part(comm, pieces, bad, used)


def _agree_names(comm: Communicator, files: Sequence[Path], stored: _Stored) -> list[list[str]]:
    """Return each file's columns: the same ones, in any order. Collective, three messages."""
    mine: list[list[Any]] = []
    with agreed(comm):
        for segment in stored.segments:
            if segment.start:
                mine.append([segment.file, csv_names(files[segment.file], segment.text)])
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
    with parsing(path), pyarrow().parquet.ParquetFile(path) as table:
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
            columns = csv_columns(path, segments[span.file], names[span.file], used, before)
        else:
            columns = _typed_columns(path, kind, span, used)
        before += columns.n_rows
        yield path, columns


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
