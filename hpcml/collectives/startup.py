"""The one place that decides between MPI and a single process."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from hpcml.collectives.communicator import Communicator, SerialCommunicator
from hpcml.collectives.launch import expected_size, is_launched, size_variable
from hpcml.errors import CollectiveError, SpecError

__all__ = ["mpi_handle", "resolved", "world"]


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
        MPI sees another number of ranks than the launcher started, or several are expected without one.
    """
    if not is_launched():
        if (expected_size() or 1) > 1:
            raise SpecError(
                f"the environment speaks of {expected_size()} ranks but no launcher started this process: "
                f"start it with mpiexec or srun, or unset {size_variable()}"
            )
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


def mpi_handle(comm: Communicator) -> Any:
    """Return the MPI communicator below `comm`, None where there is no MPI. Local.

    It is for libraries that speak MPI themselves; their calls are Collective as the library says.
    """
    return getattr(getattr(comm, "comm", comm), "handle", None)  # counted calls are those of comm.comm


def resolved(comm: Communicator | str | None) -> Communicator:
    """Return the communicator that a `comm` argument means. Collective for "world" at its first call.

    None is this process alone, with a warning where a launcher started several; "world" is all ranks.

    Raises
    ------
    SpecError
        Another string.
    """
    if comm == "world":
        return world()
    if isinstance(comm, str):
        raise SpecError(f"comm must be None, 'world' or a communicator, not {comm!r}")
    if comm is None and (expected_size() or 1) > 1:
        text = "comm=None: each rank works alone, on its own rows; comm='world' joins them"
        warnings.warn(text, stacklevel=3)
    return SerialCommunicator() if comm is None else comm
