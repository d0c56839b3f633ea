"""Statistics of the rows of a data file, with the names of its columns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hpcml.algorithms.statistics import Summary, summarize
from hpcml.collectives import Communicator, agreed
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.opening import open_file
from hpcml.io.read.table import open_table

__all__ = ["Described", "describe_rows", "target_of"]


class Described(NamedTuple):
    """A summary, the name of each feature, and the texts that the labels 0, 1, ... stand for."""

    summary: Summary
    names: list[str]
    texts: list[str] | None


def describe_rows(comm: Communicator, path: Path, columns: Columns, correlations: bool = False) -> Described:
    """Return statistics of rows in an HDF5 file; names are the first rank's to know.

    Collective: the messages of `open_table` and `summarize`, and one pass.

    Parameters
    ----------
    comm : Communicator
    path : Path
    columns : Columns
        Where y is "", it is `y` if the file has that.
    correlations : bool

    Raises
    ------
    DataError
        The file or a data set is missing or unusable.
    """
    y = target_of(comm, path) if columns.y == "" else columns.y
    table = open_table(comm, [path], columns._replace(y=y))
    with HDF5Dataset(table, comm=comm, layout=Layout("none")) as data:
        summary = summarize(data, correlations=correlations)
    names = table.feature_names or [f"x{i}" for i in range(data.n_features)]
    return Described(summary, names, table.labels)


def target_of(comm: Communicator, path: Path) -> str | None:
    """Return "y" where the file has it. Collective, two small messages."""
    y = None
    with agreed(comm):
        if comm.rank == 0:
            with open_file(path) as file:
                y = "y" if "y" in file else None
    found: str | None = comm.bcast(y)
    return found
