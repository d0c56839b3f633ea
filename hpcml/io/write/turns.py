"""One writer of a file at a time, over all jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcml.collectives import Communicator, agreed
from hpcml.errors import OutputError, shared
from hpcml.io.lock import HELD, release, try_lock

__all__ = ["one_writer"]

_POLL_SECONDS = 0.2


@contextmanager
def one_writer(comm: Communicator, destination: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock ``destination.lock`` on the first rank, and remove what a killed writer left aside.

    Collective, three small messages, and as many five times a second while another job has the lock.

    The lock is the kernel's: it ends with its holder, so what a dead process left does not block. Where the
    file system has no locks two jobs may write at once; both then write aside, and the last one stays.

    Parameters
    ----------
    comm : Communicator
    destination : Path
    tell : callable
        Takes a line when there is something to wait for, on the first rank.

    Raises
    ------
    OutputError
        The lock cannot be made, or the destination is a directory.
    """
    if not destination.name:
        raise shared(OutputError(f"cannot write {destination}: it is a directory"))
    lock = destination.with_name(destination.name + ".lock")
    handle = HELD
    told = False
    try:
        while True:
            with agreed(comm):
                if comm.rank == 0:
                    handle = try_lock(lock)
            # Polled, not waited for inside a collective: the watchdog would name the first rank as stuck.
            if comm.bcast(handle != HELD):
                break
            if comm.rank == 0 and not told:
                tell(f"waiting for another job that writes {destination}")
                told = True
            time.sleep(_POLL_SECONDS)
        if handle >= 0:
            _remove_leftovers(destination)
        yield
    finally:
        release(handle, lock)


def _remove_leftovers(destination: Path) -> None:
    for aside in destination.parent.glob(f".{destination.name}.*.part"):
        with suppress(OSError):
            aside.unlink()
