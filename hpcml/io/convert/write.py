"""Write the rows that ranks hold as one HDF5 file, with the digest of its content."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.rows import Encoding, RowRun, index_type
from hpcml.io.files import digest_of, writing
from hpcml.io.write.device import opened
from hpcml.io.write.output import Array, OutputFile, output_file

__all__ = ["write_table"]

_UNIT_BYTES = 4 << 20
"""Bytes of a data set whose SHA-256 is one term of the content digest: part of the format."""
_ROWS_BYTES = 8 << 20
_DIGEST = "hpcml_digest"


def write_table(
    comm: Communicator, destination: Path, coded: Encoding, recipe: Recipe, attributes: Mapping[str, Any]
) -> str:
    """Write X, y, names and attributes; return the content digest.

    Collective, fifteen small messages. The file is complete or absent; an older one stays until the rename.

    Parameters
    ----------
    comm : Communicator
    destination : Path
    coded : Encoding
    recipe : Recipe
    attributes : mapping
        Of the root group, numbers and texts; `hpcml_digest` comes on top.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    arrays = _arrays(coded, recipe)
    decorate = partial(_decorate, coded=coded, x=recipe.x, attributes=attributes)
    with output_file(comm, destination, arrays, decorate) as file:
        with agreed(comm), writing(destination):
            _write_rows(file, coded, recipe, first=comm.rank == 0)
        file.sync()
        with agreed(comm), writing(destination):
            mine = _unit_digests(file, arrays, comm.rank, comm.size)
        digest = _digest(arrays, coded, comm.allgather(mine))
        file.set_attribute(_DIGEST, np.bytes_(digest.encode()))
    return digest


def _arrays(coded: Encoding, recipe: Recipe) -> list[Array]:
    """Return the data sets to write; the same on every rank."""
    n, d, x = coded.n_samples, coded.n_features, recipe.x
    columns = [*([recipe.y] if coded.labelled else []), *recipe.beside]
    labels = [Array(name, (n,), np.dtype("<f8")) for name in columns]
    if coded.layout == "dense":
        return [Array(x, (n, d), np.dtype(coded.dtype)), *labels]
    return [
        Array(f"{x}/data", (coded.n_entries,), np.dtype(coded.dtype)),
        Array(f"{x}/indices", (coded.n_entries,), index_type(d)),
        Array(f"{x}/indptr", (n + 1,), np.dtype("<i8")),
        *labels,
    ]


def _decorate(file: Any, coded: Encoding, x: str, attributes: Mapping[str, Any]) -> None:
    """Add what is small, and a place for the digest."""
    if coded.layout == "csr":
        file[x].attrs["shape"] = np.array([coded.n_samples, coded.n_features], np.int64)
    for name, value in attributes.items():
        file.attrs[name] = value
    file.attrs[_DIGEST] = np.bytes_(b"0" * 64)
    if coded.features:
        names = [name.encode() for name in coded.features]
        kind = h5py.string_dtype("utf-8", max(len(name) for name in names))
        file.create_dataset("feature_names", data=np.array(names, dtype=kind), track_times=False)


def _write_rows(file: OutputFile, coded: Encoding, recipe: Recipe, *, first: bool) -> None:
    """Write this rank's rows, some megabytes at a time."""
    if first and coded.layout == "csr":
        file.put(f"{recipe.x}/indptr", 0, np.zeros(1, np.int64))
    for run in coded.runs:
        step = max(_ROWS_BYTES // (run.rows.width(coded.layout) * 8), 1)
        steps = [(start, min(start + step, run.n_rows)) for start in range(0, run.n_rows, step)]
        if coded.layout == "csr":
            _put_csr(file, recipe.x, run, steps)
        else:
            for start, stop in steps:
                file.put(recipe.x, run.start + start, run.rows.dense(start, stop))
        if run.y is not None:
            file.put(recipe.y, run.start, run.y)
        for name, values in run.beside.items():
            file.put(name, run.start, values)


def _put_csr(file: OutputFile, x: str, run: RowRun, steps: Sequence[tuple[int, int]]) -> None:
    entry = run.entry
    for start, stop in steps:
        rows = run.rows.csr(start, stop)
        file.put(f"{x}/data", entry, rows.data)
        file.put(f"{x}/indices", entry, rows.indices)
        file.put(f"{x}/indptr", run.start + start + 1, entry + np.cumsum(rows.counts))
        entry += rows.data.size


def _unit_digests(file: OutputFile, arrays: Sequence[Array], part: int, n_parts: int) -> list[str]:
    """Return the SHA-256 of a part of the units, counted from the start of each data set.

    They are read back through a new handle: what is digested is what the file holds.
    """
    units = [(array, at) for array in arrays for at in range(0, array.n_bytes, _UNIT_BYTES)]
    first, last = (len(units) * i // n_parts for i in (part, part + 1))
    with opened(file.path, os.O_RDONLY) as handle:
        return [
            digest_of(os.pread(handle, min(_UNIT_BYTES, array.n_bytes - at), file.offsets[array.name] + at))
            for array, at in units[first:last]
        ]


def _digest(arrays: Sequence[Array], coded: Encoding, units: Sequence[Sequence[str]]) -> str:
    """Return the SHA-256 over names, shapes and the units' SHA-256: a function of the content."""
    shapes = [[array.name, array.shape, array.dtype.str] for array in arrays]
    whole = [shapes, coded.features, coded.classes, [one for part in units for one in part]]
    return digest_of(json.dumps(whole).encode())
