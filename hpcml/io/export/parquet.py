"""Rows as one Parquet file: ranks make columns of their row groups, the first rank writes them in order.

A Parquet file says at its end where everything lies, and one writer must have written it. So row groups
travel to it, a few at a time: it never holds more than eight.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import writing
from hpcml.io.read.rows import Rows
from hpcml.io.read.table import HDF5Table
from hpcml.io.tables.columns import pyarrow

__all__ = ["write_parquet"]

_SENDERS = 8


def write_parquet(
    comm: Communicator,
    path: Path,
    destination: Path,
    table: HDF5Table,
    unit: int,
    make: Callable[[Rows], Any],
) -> None:
    """Write row groups of `unit` rows. Collective, four messages a round of eight row groups, and one.

    Parameters
    ----------
    comm : Communicator
    path, destination : Path
        What to write, and what an error names.
    table : HDF5Table
    unit : int
        Rows of a row group.
    make : callable
        Gives the Arrow table of rows.

    Raises
    ------
    DataError, OutputError
    """
    pa = pyarrow()
    senders = min(comm.size, _SENDERS)
    nothing = np.zeros(0, np.uint8)
    with ExitStack() as stack:
        writer: Any = None
        for first in range(0, table.n_samples, unit * senders):
            start = first + unit * comm.rank
            stop = min(start + unit, table.n_samples)
            packed = nothing
            with agreed(comm):
                if comm.rank < senders and start < stop:
                    packed = _packed(make(table.read(start, stop)))
                    table.check()
            arrived = comm.alltoall([packed, *[nothing] * (comm.size - 1)])
            with agreed(comm), writing(destination):
                for part in arrived if comm.rank == 0 else []:
                    if not part.size:
                        continue
                    group = pa.ipc.open_stream(pa.py_buffer(part)).read_all()
                    writer = writer or stack.enter_context(pa.parquet.ParquetWriter(path, group.schema))
                    writer.write_table(group, row_group_size=unit)
        with agreed(comm), writing(destination):
            stack.close()


def _packed(table: Any) -> NDArray[np.uint8]:
    """Return a table as bytes."""
    pa, sink = pyarrow(), pyarrow().BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)
