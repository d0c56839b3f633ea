"""From the spec's data section to open data sets."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path

from hpcml.algorithms.survey import Names
from hpcml.collectives import Communicator, agreed
from hpcml.data import RowSelection
from hpcml.errors import DataError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.rows import RowReader
from hpcml.io.read.table import Access, HDF5Table, open_table
from hpcml.spec import Spec
from hpcml.spec.schema_model import UNLABELLED

__all__ = [
    "columns_of",
    "data_files",
    "make_layout",
    "names_of",
    "open_part",
    "open_rows",
    "try_untrusted",
]


def data_files(spec: Spec, comm: Communicator, part: str) -> list[Path]:
    """Return the files of one part, "train" or "test"; patterns are looked up by one rank.

    Collective, two small messages.

    Raises
    ------
    DataError
        A pattern fits no file.
    """
    test = spec.data.split.test
    named = [test] if part == "test" and isinstance(test, Path) else list(spec.data.path)
    files: list[str] = []
    with agreed(comm):
        if comm.rank == 0:
            files = [str(path) for one in named for path in _matching(one)]
    return [Path(path) for path in comm.bcast(files)]


def _matching(path: Path) -> list[Path]:
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    found = sorted(glob.glob(str(path)))
    if not found:
        raise DataError(f"{path}: no file fits this pattern")
    return [Path(one) for one in found]


def try_untrusted(spec: Spec) -> None:
    """With `data.io.untrusted`, let a child process open each data file first. Local; before MPI starts.

    A file that the run itself makes is not among them.

    Raises
    ------
    DataError
        A file is not HDF5, or reading its structure killed the child.
    """
    if spec.data.io.untrusted:
        from hpcml.io.describe.preflight import preflight

        is_made = bool(spec.data.source) or spec.data.generate is not None
        given = () if is_made else spec.data.path
        test = spec.data.split.test
        for named in (*given, test) if isinstance(test, Path) else given:
            for path in _matching(named):
                preflight(path)


def open_rows(spec: Spec, comm: Communicator, part: str) -> HDF5Table:
    """Open the files of one part, "train" or "test".

    Collective, five small messages, two more where chunks have filters.
    """
    data = spec.data
    access = Access(
        data.io.chunk_cache,
        0,
        data.allow_external,
        driver="mpio" if data.io.driver == "mpio" else "independent",
    )
    return open_table(comm, data_files(spec, comm, part), columns_of(spec), data.dtype, access)


def columns_of(spec: Spec) -> Columns:
    """Return what the columns are called in the files of a spec. Local."""
    data = spec.data
    y = None if spec.task in UNLABELLED else data.y
    return Columns(data.x, y, data.weight, data.offset, data.exposure)


def names_of(path: Path, columns: Columns) -> Names:
    """Return what columns are called in errors. Local."""
    x, y, weight, offset, exposure = (f"{path}:{name}" for name in columns)
    return Names(x, y, weight, offset, exposure if columns.exposure else None)


def open_part(spec: Spec, comm: Communicator, part: str, rows: RowReader, cache: str) -> HDF5Dataset:
    """Return the data set of one part's rows, kept in `cache`. Collective, two small messages."""
    split, wanted = spec.data.split, spec.data.rows
    share = float(split.test) if split.method == "hash" and not isinstance(split.test, Path) else 0.0
    side = part if split.method == "hash" else "all"
    selection = RowSelection(spec.seed, wanted.start or 0, wanted.stop, wanted.fraction, share, side)
    selects = selection != RowSelection(spec.seed, test=share, part="all")
    # What is mapped from scratch needs no thread to read it.
    layout = replace(make_layout(spec, rows), cache="memory" if cache == "memory" else "none")
    layout = replace(layout, prefetch=0) if cache == "scratch" else layout
    return HDF5Dataset(rows, comm=comm, selection=selection if selects else None, layout=layout)


def make_layout(spec: Spec, rows: RowReader) -> Layout:
    """Return how rows are cut, kept and read ahead. Local."""
    data = spec.data
    cut = data.partition
    return Layout(
        "auto",
        data.memory_limit,
        None if cut.shard_bytes == "auto" else cut.shard_bytes,
        None if cut.block_rows == "auto" else cut.block_rows,
        0 if data.io.driver == "mpio" else data.io.prefetch,  # only the main thread speaks MPI
        _subproblems(spec, rows),
    )


def _subproblems(spec: Spec, rows: RowReader) -> int | None:
    """Return the runs of shards that a rank must own whole; None for a solver without subproblems.

    A subproblem with rows for twenty times its weights knows nearly all directions by itself.
    """
    if spec.solver.name not in ("admm", "async_admm"):
        return None
    wanted = spec.solver.subproblems
    return wanted if isinstance(wanted, int) else max(1, rows.n_samples // (20 * (rows.n_features + 1)))
