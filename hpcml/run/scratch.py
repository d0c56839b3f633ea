"""The wiring of node-local scratch: what a spec asks for, brought there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hpcml.collectives import Communicator
from hpcml.data import RowPartition
from hpcml.errors import SpecError, shared
from hpcml.io.read.rows import RowReader
from hpcml.io.read.table import HDF5Table, open_table
from hpcml.io.scratch.copied import CopiedRows
from hpcml.io.scratch.copying import stage_files
from hpcml.io.scratch.directory import Purpose, Scratch, Wishes, open_scratch
from hpcml.io.scratch.staging import stage_shards
from hpcml.spec import Spec

__all__ = ["staged_rows"]

_BESIDE_X = 24  # bytes of y, weight and offset a row


def staged_rows(
    spec: Spec,
    comm: Communicator,
    stack: ExitStack,
    table: HDF5Table,
    partition: RowPartition,
    attempt: int,
    show: Callable[[str], None],
) -> RowReader | None:
    """Return the rows of a table on node-local scratch, or None on every rank where there is no room.

    Collective, some thirty small messages; the rows are read once. What is made is removed with `stack`.

    Raises
    ------
    OutputError
        `scratch.path` cannot be used.
    SpecError
        Files are to be copied that are not all of the rows.
    """
    wishes = Wishes(
        None if spec.scratch.path == "auto" else Path(spec.scratch.path),
        spec.scratch.stage,
        spec.scratch.keep,
        spec.scratch.limit,
    )
    job = os.environ.get("SLURM_JOB_ID", "local")
    purpose = Purpose(_identity(table, partition), _needed(comm, wishes, table, partition), job, attempt)
    scratch = open_scratch(comm, wishes, purpose, show)
    if scratch is None:
        return None
    stack.enter_context(scratch)
    if wishes.stage == "shard":
        return stage_shards(comm, scratch, table, partition, show)
    return _copied(comm, scratch, stack, table, show)


def _copied(
    comm: Communicator, scratch: Scratch, stack: ExitStack, table: HDF5Table, show: Callable[[str], None]
) -> RowReader | None:
    files = [file.path for file in table.layout.files]
    if [part.file for part in table.layout.columns["X"]] != list(range(len(files))):
        sentence = "scratch.stage: copy does not take virtual data sets and external links; write shard"
        raise shared(SpecError(sentence))
    paths = stage_files(comm, scratch, files, show)
    if paths is None:
        return None
    copies = stack.enter_context(open_table(comm, paths, table.names, str(table.dtype), table.access))
    return CopiedRows(copies, table.layout)


def _needed(comm: Communicator, wishes: Wishes, table: HDF5Table, partition: RowPartition) -> int:
    if wishes.stage == "copy":
        return sum(file.identity.size for file in table.layout.files)
    start, stop = partition.rows_of(partition.shards_of(comm.rank))
    return int((stop - start) * (table.source.row_bytes + _BESIDE_X))


def _identity(table: HDF5Table, partition: RowPartition) -> str:
    """Return what tells these rows from others."""
    files = [[str(file.path.resolve()), *file.identity] for file in table.layout.files]
    facts = [files, table.names, str(table.dtype), partition.shard_rows, partition.block_rows]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
