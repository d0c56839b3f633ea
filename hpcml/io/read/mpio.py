"""Files that all ranks open together through MPI-IO, where h5py was built for it."""

from __future__ import annotations

import atexit
from pathlib import Path

import h5py

from hpcml.collectives import Communicator
from hpcml.collectives.startup import mpi_handle
from hpcml.errors import DataError, SpecError
from hpcml.io.read.opening import open_file

__all__ = ["check_mpio", "open_together"]

_kept: list[h5py.File] = []


@atexit.register
def _close() -> None:
    """Close what is open, before MPI ends: MPI-IO may not be spoken to later."""
    while _kept:
        _kept.pop(0).close()


def check_mpio() -> None:
    """Refuse MPI-IO where h5py cannot do it. Local.

    Raises
    ------
    SpecError
        It says what to install.
    """
    if not h5py.get_config().mpi:
        raise SpecError(
            "data.io.driver: mpio needs an h5py that was built with a parallel HDF5, and this one was not: "
            "load the site's module, build one (HDF5_MPI=ON CC=mpicc pip install --no-build-isolation "
            "--no-binary=h5py h5py), or leave data.io.driver out"
        )


def open_together(comm: Communicator, path: Path) -> h5py.File:
    """Open a file to read on all ranks. Collective; a process without MPI opens it by itself.

    The file stays open until the process ends in order: to close it is Collective too, and a rank that fails
    must not wait for the others.

    Raises
    ------
    DataError
        It cannot be opened.
    """
    handle = mpi_handle(comm)
    if handle is None:
        return open_file(path)
    try:
        _kept.append(h5py.File(path, "r", driver="mpio", comm=handle, rdcc_nbytes=0))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be opened through MPI-IO ({error})") from None
    return _kept[-1]
