"""A communicator that counts what passes through it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpcml.collectives.communicator import Array, Communicator, Op

if TYPE_CHECKING:
    from hpcml.collectives.mailbox import Mailbox

__all__ = ["CountingCommunicator"]


class CountingCommunicator:
    """Wrap `comm` and count calls, bytes handed over and seconds spent, by verb.

    Attributes
    ----------
    calls, bytes : Counter of int
        By the verb's name.
    seconds : dict of float
        By the verb's name, waiting for other ranks included.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.rank = comm.rank
        self.size = comm.size
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._node: Communicator | None = None

    @contextmanager
    def _counted(self, verb: str, n_bytes: int = 0) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.calls[verb] += 1
        self.bytes[verb] += n_bytes
        self.seconds[verb] += time.perf_counter() - start

    def allreduce(self, *arrays: Array, op: Op = "sum") -> list[Array]:
        """Collective, one message. See Communicator.allreduce."""
        with self._counted("allreduce", sum(array.nbytes for array in arrays)):
            return self.comm.allreduce(*arrays, op=op)

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Collective, two small messages. See Communicator.bcast."""
        with self._counted("bcast"):
            return self.comm.bcast(value, root)

    def allgather(self, value: Any) -> list[Any]:
        """Collective, two small messages. See Communicator.allgather."""
        with self._counted("allgather"):
            return self.comm.allgather(value)

    def alltoall(self, buffers: Sequence[Array]) -> list[Array]:
        """Collective, two messages. See Communicator.alltoall."""
        with self._counted("alltoall", sum(buffer.nbytes for buffer in buffers)):
            return self.comm.alltoall(buffers)

    def split(self, color: int) -> Communicator:
        """Collective. See Communicator.split; the part does not count."""
        with self._counted("split"):
            return self.comm.split(color)

    def node(self) -> Communicator:
        """Collective at its first call. See Communicator.node; the part does not count."""
        if self._node is None:
            with self._counted("node"):
                self._node = self.comm.node()
        return self._node

    def mailbox(self) -> Mailbox:
        """Collective at its first call. See Communicator.mailbox; its letters do not count."""
        return self.comm.mailbox()

    def abort(self, code: int) -> None:
        """Local. See Communicator.abort."""
        self.comm.abort(code)
