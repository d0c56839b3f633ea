"""Ranks as threads of one process, for tests and for faults put in on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from hpcml.collectives.communicator import Array, Communicator, Op, as_received
from hpcml.collectives.mailbox import LeftAloneError, Letter, Mailbox, QueueMailbox
from hpcml.collectives.packing import pack, unpack

__all__ = ["ThreadCommunicator", "run_threads"]

T = TypeVar("T")
_REDUCE = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class _Meeting:
    """Where `size` threads leave a value each and take away all of them."""

    def __init__(self, size: int, timeout: float) -> None:
        self.timeout = timeout
        self.slots: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=timeout)
        self.parts: list[_Meeting] = []

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.slots[rank] = value
        try:
            self.barrier.wait()
            values = list(self.slots)
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise LeftAloneError(f"rank {rank} waited for a rank that did not come") from None
        return values

    def make_part(self, size: int) -> _Meeting:
        self.parts.append(_Meeting(size, self.timeout))
        return self.parts[-1]

    def is_broken(self) -> bool:
        """Tell whether a thread has failed."""
        return self.barrier.broken

    def abort(self) -> None:
        """Break this meeting and its parts: a thread may wait in any of them."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()


class ThreadCommunicator:
    """A rank of `run_threads`: the verbs of Communicator between threads."""

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting
        self._mailbox: Mailbox | None = None

    def allreduce(self, *arrays: Array, op: Op = "sum") -> list[Array]:
        """Collective, one message. See Communicator.allreduce."""
        buffers = self._meeting.exchange(self.rank, pack(arrays))
        return unpack(_REDUCE[op].reduce(np.stack(buffers)), arrays)

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Collective. See Communicator.bcast."""
        return as_received(self._meeting.exchange(self.rank, value)[root])

    def allgather(self, value: Any) -> list[Any]:
        """Collective. See Communicator.allgather."""
        return [as_received(one) for one in self._meeting.exchange(self.rank, value)]

    def alltoall(self, buffers: Sequence[Array]) -> list[Array]:
        """Collective. See Communicator.alltoall."""
        sent = self._meeting.exchange(self.rank, list(buffers))
        return [row[self.rank].copy() for row in sent]

    def split(self, color: int) -> Communicator:
        """Collective. See Communicator.split."""
        colors = self.allgather(color)
        members = [rank for rank, other in enumerate(colors) if other == color]
        is_first = self.rank == members[0]
        made = self._meeting.exchange(self.rank, self._meeting.make_part(len(members)) if is_first else None)
        return ThreadCommunicator(members.index(self.rank), len(members), made[members[0]])

    def node(self) -> Communicator:
        """Return this communicator: threads share memory. Local."""
        return self

    def mailbox(self) -> Mailbox:
        """Collective at its first call. See Communicator.mailbox."""
        if self._mailbox is None:
            mine: SimpleQueue[Letter] = SimpleQueue()
            queues = self._meeting.exchange(self.rank, mine)
            is_over = self._meeting.is_broken
            self._mailbox = QueueMailbox(self.rank, queues, is_over, self._meeting.timeout)
        return self._mailbox

    def abort(self, code: int) -> None:
        """Local: break the meeting, so that every waiting thread raises CollectiveError."""
        self._meeting.abort()


def run_threads(size: int, program: Callable[[Communicator], T], timeout: float = 60.0) -> list[T]:
    """Run `program(comm)` on `size` threads and return what each rank returned.

    Raises
    ------
    BaseException
        The first error of the lowest failing rank; the other ranks are ended.
    """
    meeting = _Meeting(size, timeout)
    results: list[Any] = [None] * size
    errors: list[BaseException | None] = [None] * size

    def work(rank: int) -> None:
        comm = ThreadCommunicator(rank, size, meeting)
        try:
            results[rank] = program(comm)
        except BaseException as error:
            errors[rank] = error
            comm.abort(1)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raised = [error for error in errors if error is not None]
    causes = sorted(raised, key=lambda error: isinstance(error, LeftAloneError))
    if causes:
        raise causes[0]
    return results
