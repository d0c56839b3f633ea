"""A whole file compared with its index, before it is copied."""

from __future__ import annotations

import os
from pathlib import Path

import h5py

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import index_path
from hpcml.io.index.side_file import read_index
from hpcml.io.read.handle import identity_of
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.opening import open_file
from hpcml.io.read.rows import Buffers
from hpcml.io.read.table import open_table

__all__ = ["compare_with_index"]

_COMPARED_BYTES = 4 << 20


def compare_with_index(comm: Communicator, source: Path) -> None:
    """Read the rows once as a job does where the source has an index: damage must not be copied.

    Collective, two small messages, and a pass and some ten more where there is an index.

    Raises
    ------
    DataError
        Rows differ from the index, or it is of another state of the file.
    """
    names: list[list[str | None]] = []
    with agreed(comm):
        if comm.rank == 0 and index_path(source).exists():
            names = _indexed_names(source)
    for columns in comm.bcast(names):
        with open_table(comm, [source], Columns(*columns)) as table, agreed(comm):
            first, last = (table.n_samples * r // comm.size for r in (comm.rank, comm.rank + 1))
            unit = max(1, int(_COMPARED_BYTES // max(table.source.row_bytes, 1)))
            buffers = Buffers()
            for start in range(first, last, unit):
                table.read(start, min(start + unit, last), buffers)
            table.check()


def _indexed_names(source: Path) -> list[list[str | None]]:
    """Return the indexed data sets by threes: one of rows, and two columns that go with it or None."""
    with open_file(source) as file:
        index = read_index(source, identity_of(os.stat(source)))
        arrays = index.arrays if index is not None else {}
        rows = [name for name in arrays if len(arrays[name].shape) == 2 and arrays[name].shape[1] > 1]
        rows += [name.removesuffix("/indptr") for name in arrays if name.endswith("/indptr")]
        lone = [name for name in arrays if isinstance(file.get(name), h5py.Dataset)]
        columns: list[str | None] = [
            name for name in lone if name not in rows and name.rpartition("/")[0] not in rows
        ]
    pairs = [columns[i : i + 2] for i in range(0, len(columns), 2)] or [[]]
    threes = [[x, None, None] for x in rows[1:]]
    return threes + [[rows[0], *pair, *[None] * (2 - len(pair))] for pair in pairs] if rows else []
