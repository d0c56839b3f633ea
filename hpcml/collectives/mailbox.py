"""Letters between two ranks that wait for nobody, and the mailboxes of threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import CollectiveError

__all__ = ["LeftAloneError", "Letter", "Mailbox", "QueueMailbox"]

_TICK = 0.05


class LeftAloneError(CollectiveError):
    """The other threads have gone: never the first cause."""


class Letter(NamedTuple):
    """What came in: the place of the sender, and its numbers, (any,) float64."""

    sender: int
    values: NDArray[np.float64]


class Mailbox(Protocol):
    """Letters among the ranks of a communicator, one place each. Every verb is Local.

    Letters of one sender come in the order in which they were posted. Every letter must be taken before the
    ranks leave the mailbox: the next ones to use it would find it.
    """

    @property
    def place(self) -> int:
        """The number of this process, as in the communicator."""

    @property
    def size(self) -> int:
        """The number of places."""

    def post(self, to: int, values: NDArray[np.float64]) -> None:
        """Send a copy of `values`, (any,) float64 of at most 256 MiB, and return at once."""

    def take(self) -> Letter | None:
        """Return the next letter that has come in, None where there is none."""

    def wait(self) -> Letter:
        """Return the next letter; sleep until it comes in."""

    def settle(self) -> None:
        """Wait until all that was posted here has left."""


class QueueMailbox:
    """A place among threads of one process.

    Parameters
    ----------
    place : int
    queues : sequence of SimpleQueue
        One for each place, the same ones on all.
    is_over : callable
        Says whether another thread has failed.
    timeout : float
        Seconds after which nothing more is expected.
    """

    def __init__(
        self,
        place: int,
        queues: Sequence[SimpleQueue[Letter]],
        is_over: Callable[[], bool] = lambda: False,
        timeout: float = 60.0,
    ) -> None:
        self.place = place
        self.size = len(queues)
        self._queues = queues
        self._is_over = is_over
        self._timeout = timeout

    def post(self, to: int, values: NDArray[np.float64]) -> None:
        """Local. See Mailbox.post."""
        self._queues[to].put(Letter(self.place, np.array(values, np.float64)))

    def take(self) -> Letter | None:
        """Local. See Mailbox.take."""
        try:
            return self._queues[self.place].get_nowait()
        except Empty:
            return None

    def wait(self) -> Letter:
        """Local. See Mailbox.wait.

        Raises
        ------
        LeftAloneError
            Another thread has failed, or nothing comes.
        """
        end = time.monotonic() + self._timeout
        while not self._is_over() and time.monotonic() < end:
            try:
                return self._queues[self.place].get(timeout=_TICK)
            except Empty:
                continue
        raise LeftAloneError(f"rank {self.place} waited for a letter that did not come")

    def settle(self) -> None:
        """Local. See Mailbox.settle: a queue takes all at once."""
