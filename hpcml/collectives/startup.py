"""The one place that decides between MPI and a single process."""

from __future__ import annotations

from functools import cache

from hpcml.collectives.communicator import Communicator, SerialCommunicator
from hpcml.collectives.launch import is_launched
from hpcml.errors import CollectiveError

__all__ = ["world"]


@cache
def world() -> Communicator:
    """Return the communicator of all ranks of this job; the same object at each call.

    Collective at its first call, Local after it. Without a launcher it is a communicator of one
    rank and MPI is not loaded.

    Raises
    ------
    CollectiveError
        A launcher started this process and MPI cannot be loaded.
    SpecError
        MPI sees another number of ranks than the launcher started.
    """
    if not is_launched():
        return SerialCommunicator()
    try:
        from hpcml.collectives.mpi import open_mpi_world
    except (ImportError, RuntimeError) as error:
        raise CollectiveError(
            f"an MPI launcher started this process but MPI cannot be loaded ({error}); "
            "pip install 'hpcml[mpi]', or load the site's MPI module"
        ) from error
    from hpcml.process import die_with_parent

    die_with_parent()
    return open_mpi_world()
