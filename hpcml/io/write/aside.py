"""A file that all ranks write together: complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hpcml.collectives import Communicator, agreed
from hpcml.io.files import replacing, sync, writing

__all__ = ["replacing_together"]


@contextmanager
def replacing_together(comm: Communicator, path: Path, outdated: Path | None = None) -> Iterator[Path]:
    """Give all ranks one name to write aside; afterwards the file stands at `path`, synced by every node.

    Collective, six small messages and, the first time, those that find the node. One rank of a node syncs:
    its system holds what all of them wrote. The directory is made. An older file stays until the rename; the
    new one is removed when the work fails.

    Parameters
    ----------
    comm : Communicator
    path : Path
    outdated : Path, optional
        What an older file leaves behind, removed right before the rename.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    node = comm.node()
    with ExitStack() as stack:
        aside = ""
        with agreed(comm):
            if comm.rank == 0:
                aside = str(stack.enter_context(replacing(path)))
        name = Path(comm.bcast(aside))
        yield name
        with agreed(comm):  # nobody writes any more
            pass
        with agreed(comm), writing(path):
            if comm.rank > 0 and node.rank == 0:  # the first rank does so before the rename
                sync(name)
        with agreed(comm), writing(path):
            if outdated is not None and comm.rank == 0:
                outdated.unlink(missing_ok=True)
            stack.close()
