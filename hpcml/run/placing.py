"""Where rows live between passes: in memory, in node-local scratch, or where they are stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from hpcml.collectives import Communicator
from hpcml.io.dataset import fits_in_memory
from hpcml.io.read.rows import RowReader
from hpcml.io.read.table import HDF5Table
from hpcml.run.inputs import make_layout
from hpcml.spec import Spec

__all__ = ["Place", "placed", "where_kept"]


class Place(NamedTuple):
    """Rows where they will be read from at each pass.

    Attributes
    ----------
    rows : RowReader
    cache : {"memory", "scratch", "none"}
    reason : str
        Why.
    """

    rows: RowReader
    cache: str
    reason: str


def placed(
    spec: Spec,
    comm: Communicator,
    stack: ExitStack,
    table: HDF5Table,
    attempt: int,
    show: Callable[[str], None],
) -> Place:
    """Return the rows of a table where `data.cache` wants them, or where they can be.

    Collective: three small messages; where rows go to scratch, they are read once and some thirty more.

    Raises
    ------
    OutputError
        `scratch.path` cannot be used.
    """
    wanted = spec.data.cache
    if wanted in ("memory", "none"):
        return Place(table, wanted, "asked for")
    layout = make_layout(spec, table)
    partition = layout.cut(table, comm)
    reason = "asked for"
    if wanted == "auto":
        if fits_in_memory(comm, table, partition, layout.memory_limit):
            return Place(table, "memory", "every rank's share fits in memory")
        reason = "a rank's share does not fit in memory"
        if not comm.bcast(_names_scratch(spec)):
            return Place(table, "none", f"{reason}, and no scratch is named")
    from hpcml.run.scratch import staged_rows  # few runs have data that do not fit

    staged = staged_rows(spec, comm, stack, table, partition, attempt, show)
    if staged is None:
        return Place(
            table, "none", f"{reason}, and scratch has no room" if wanted == "auto" else "no room on scratch"
        )
    return Place(staged, "scratch", reason)


def where_kept(spec: Spec, comm: Communicator, table: HDF5Table) -> str:
    """Return "memory" where the rows of a table are kept between a few passes, else "none".

    Collective, three small messages at most.
    """
    if spec.data.cache in ("memory", "none"):
        return spec.data.cache
    layout = make_layout(spec, table)
    fits = fits_in_memory(comm, table, layout.cut(table, comm), layout.memory_limit)
    return "memory" if fits else "none"


def _names_scratch(spec: Spec) -> bool:
    """Tell whether user or site say where scratch is: a bare /tmp may be memory, or small."""
    from hpcml.io.scratch.directory import VARIABLES

    if spec.data.io.driver == "mpio":
        return False  # it reads files in place
    return spec.scratch.path != "auto" or any(os.environ.get(name) for name in VARIABLES if name != "TMPDIR")
