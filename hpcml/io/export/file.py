"""Rows of an HDF5 file as one file of another format, written by all ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, OutputError
from hpcml.io.convert.notes import stored_attributes
from hpcml.io.export.formats import (
    Heading,
    arrow_table,
    csv_header,
    csv_text,
    dense,
    jsonl_text,
    libsvm_text,
    npy_header,
)
from hpcml.io.export.parquet import write_parquet
from hpcml.io.files import writing
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.opening import open_file
from hpcml.io.read.rows import Rows
from hpcml.io.read.table import HDF5Table, open_table
from hpcml.io.tables.columns import pyarrow
from hpcml.io.write.aside import replacing_together
from hpcml.io.write.device import opened, write_all

__all__ = ["SUFFIXES", "export"]

SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
    ".svmlight": "libsvm",
    ".npy": "npy",
    ".parquet": "parquet",
}
"""The format of a file by its suffix."""

_UNIT_BYTES = 4 << 20
"""Bytes of the rows that are formatted at a time."""
_MOST_COLUMNS = 10_000
_PARQUET_UNITS = 4
"""Units of a row group: part of what the file looks like."""


@dataclass(frozen=True)
class _Sequence:
    """A file to write: what stands first, and the bytes of runs of rows."""

    path: Path
    header: bytes
    text: Callable[[Rows], bytes]


def export(
    comm: Communicator,
    source: Path,
    destination: Path,
    names: Columns,
    say: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> int:
    """Write the rows of an HDF5 file in another format; return how many.

    Collective, four messages for each 4 MiB of rows a rank, and at most twenty-four more. The file is the
    same to the byte for any number of ranks, and complete or absent.

    csv, jsonl and parquet have a column for each column of X, with the names in `feature_names` or x0, x1,
    ..., and y last, as texts where the file has `classes`. libsvm has indices from 1. npy has X alone; y
    stands beside it in NAME_y.npy.

    Parameters
    ----------
    comm : Communicator
    source, destination : Path
        The suffix of the destination says the format.
    names : Columns
        Of the data sets; y may be absent.
    say : callable
        Takes a line of progress, on rank 0.
    overwrite : bool
        Replace what stands at the destination.

    Raises
    ------
    DataError
        The source cannot be read; X in CSR form has more than 10,000 columns and the format is dense; a value
        cannot be said in the format.
    OutputError
        The destination is there, or for want of space, quota or permission.
    """
    kind = SUFFIXES[destination.suffix.lower()]
    with ExitStack() as stack:
        has_y, known, target, classes = _head(comm, source, names)
        table = stack.enter_context(open_table(comm, [source], names._replace(y=names.y if has_y else None)))
        features = known or [f"x{j}" for j in range(0 if kind == "libsvm" else table.n_features)]
        heading = Heading(features, _free(target, features) if has_y else None, classes)
        with agreed(comm):
            _check(source, table, kind)
            if kind != "npy":
                pyarrow()
            if not overwrite:
                _refuse_older([destination, *([_beside(destination)] if kind == "npy" else [])])
        if kind == "parquet":
            rows = _unit_rows(table) * _PARQUET_UNITS
            with replacing_together(comm, destination) as aside:
                write_parquet(comm, aside, destination, table, rows, partial(arrow_table, heading=heading))
        with ExitStack() as whole:  # X and y of npy appear together, or neither
            for file in list(_files(kind, destination, table, heading)):
                _write(comm, whole.enter_context(replacing_together(comm, file.path)), file, table)
    if comm.rank == 0:
        say(f"wrote {table.n_samples} rows to {destination}")
    return table.n_samples


def _head(comm: Communicator, source: Path, names: Columns) -> tuple[Any, ...]:
    """Return whether y is there, names of features and target, and classes. Collective, three messages."""
    said: list[Any] = []
    with agreed(comm):
        if comm.rank == 0:
            with open_file(source) as file:
                known = file.get("feature_names")
                features = None if not isinstance(known, h5py.Dataset) else list(known.asstr()[()])
                classes = file.attrs.get("classes")
                has_y = names.y is not None and names.y in file
            said = [has_y, features, _target(source), None if classes is None else list(map(str, classes))]
    return tuple(comm.bcast(said))


def _target(source: Path) -> str:
    """Return the column that y was made of, by the recipe of a conversion."""
    recipe = json.loads(stored_attributes(source).get("hpcml_recipe", "{}"))
    return str(recipe.get("target") or "y")


def _free(name: str, taken: list[str]) -> str:
    """Return a name for y that no feature has."""
    while name in taken:
        name += "_"
    return name


def _check(source: Path, table: HDF5Table, kind: str) -> None:
    if table.is_sparse and kind != "libsvm" and table.n_features > _MOST_COLUMNS:
        raise DataError(
            f"{source}: X has {table.n_features} columns in CSR form, and {kind} files are dense: "
            f"write libsvm (at most {_MOST_COLUMNS} columns are made dense)"
        )


def _refuse_older(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise OutputError(f"{path} is there: remove it, name another path, or write --overwrite")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_y.npy")


def _files(kind: str, path: Path, table: HDF5Table, heading: Heading) -> Iterator[_Sequence]:
    """Yield what is to be written in which file."""
    if kind == "csv":
        yield _Sequence(path, csv_header(heading), partial(csv_text, heading=heading))
    elif kind == "jsonl":
        yield _Sequence(path, b"", partial(jsonl_text, heading=heading))
    elif kind == "libsvm":
        yield _Sequence(path, b"", libsvm_text)
    elif kind == "npy":
        shape = (table.n_samples, table.n_features)
        if heading.target is not None:
            yield _Sequence(_beside(path), npy_header(shape[:1], np.dtype("<f8")), _label_bytes)
        yield _Sequence(path, npy_header(shape, table.dtype), _row_bytes)


def _row_bytes(rows: Rows) -> bytes:
    return dense(rows).tobytes()


def _label_bytes(rows: Rows) -> bytes:
    return b"" if rows.y is None else rows.y.tobytes()


def _unit_rows(table: HDF5Table) -> int:
    """Return the rows formatted at a time: a function of the data."""
    width = table.source.row_bytes if table.is_sparse else table.n_features * 8
    return max(int(_UNIT_BYTES // max(width, 1)), 1)


def _write(comm: Communicator, aside: Path, file: _Sequence, table: HDF5Table) -> None:
    """Write one file: each round every rank formats a unit of rows, whose place follows from the lengths."""
    unit = _unit_rows(table)
    at = len(file.header)
    with agreed(comm), writing(file.path):
        if comm.rank == 0:
            aside.write_bytes(file.header)
    for first in range(0, table.n_samples, unit * comm.size):
        text = b""
        with agreed(comm):
            start = min(first + unit * comm.rank, table.n_samples)
            stop = min(start + unit, table.n_samples)
            text = file.text(table.read(start, stop)) if start < stop else b""
            table.check()
        lengths = comm.allgather(len(text))
        with agreed(comm), writing(file.path), opened(aside, os.O_WRONLY) as handle:
            write_all(handle, text, at + sum(lengths[: comm.rank]))
        at += sum(lengths)
