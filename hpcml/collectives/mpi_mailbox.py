"""Letters over MPI: nonblocking sends, and receives of what a probe has matched."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcml.collectives.mailbox import Letter

__all__ = ["MPIMailbox"]

_SHORTEST, _LONGEST = 2e-5, 1e-3  # seconds between looks: MPI itself would spin


class _Arrival(NamedTuple):
    """A letter that is matched; its numbers may still be on their way."""

    sender: int
    values: NDArray[np.float64]
    request: MPI.Request


class MPIMailbox:
    """A place on a communicator of its own.

    Parameters
    ----------
    comm : MPI.Comm
        For letters alone.
    waiting : callable
        Gives the context in which a watchdog sees this rank wait.
    """

    def __init__(self, comm: MPI.Comm, waiting: Callable[[], AbstractContextManager[None]]) -> None:
        self.place = comm.Get_rank()
        self.size = comm.Get_size()
        self._comm = comm
        self._waiting = waiting
        self._leaving: list[tuple[MPI.Request, NDArray[np.float64]]] = []
        self._arriving: list[_Arrival] = []

    def post(self, to: int, values: NDArray[np.float64]) -> None:
        """Local. See Mailbox.post."""
        kept = np.array(values, np.float64)  # MPI reads it until the request is complete
        self._leaving.append((self._comm.Isend(kept, to), kept))
        self._progress()

    def take(self) -> Letter | None:
        """Local. See Mailbox.take."""
        self._progress()
        self._match()
        behind: set[int] = set()
        for i, (sender, values, request) in enumerate(self._arriving):
            if sender not in behind and request.Test():
                del self._arriving[i]
                return Letter(sender, values)
            behind.add(sender)
        return None

    def _match(self) -> None:
        status = MPI.Status()
        while (message := self._comm.Improbe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)) is not None:
            values = np.empty(status.Get_count(MPI.DOUBLE))
            self._arriving.append(_Arrival(status.Get_source(), values, message.Irecv(values)))

    def _progress(self) -> None:
        self._leaving = [one for one in self._leaving if not one[0].Test()]

    def wait(self) -> Letter:
        """Local. See Mailbox.wait."""
        pause = _SHORTEST
        with self._waiting():
            while (letter := self.take()) is None:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
        return letter

    def settle(self) -> None:
        """Local. See Mailbox.settle."""
        with self._waiting():
            while self._leaving:
                self._progress()
                time.sleep(_SHORTEST)
