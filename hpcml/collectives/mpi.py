"""The communicator over MPI."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mpi4py
import numpy as np

mpi4py.rc.thread_level = "funneled"  # only the main thread of a rank speaks MPI

from mpi4py import MPI  # noqa: E402  (the thread level must stand before MPI starts)

from hpcml.collectives.abort import let_through  # noqa: E402
from hpcml.collectives.communicator import Activity, Array, Communicator, Op  # noqa: E402
from hpcml.collectives.launch import expected_size  # noqa: E402
from hpcml.collectives.packing import pack, pieces, unpack  # noqa: E402
from hpcml.errors import SpecError  # noqa: E402

if TYPE_CHECKING:
    from hpcml.collectives.mailbox import Mailbox

__all__ = ["MPICommunicator", "library_version", "open_mpi_world"]

_OPS = {"sum": MPI.SUM, "max": MPI.MAX, "min": MPI.MIN}


class MPICommunicator:
    """The verbs of Communicator over a private duplicate of an MPI communicator.

    Attributes
    ----------
    activity : Activity or None
        What this rank waits for now; a watchdog thread reads it.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._comm = comm.Dup()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        self.activity: Activity | None = None
        self._sequence = 0
        self._mailbox: Mailbox | None = None
        self._node: Communicator | None = None

    @property
    def handle(self) -> MPI.Comm:
        """The communicator as MPI knows it, for libraries that speak MPI themselves. Local."""
        return self._comm

    @contextmanager
    def _in(self, verb: str) -> Iterator[None]:
        self._sequence += 1
        self.activity = Activity(self._sequence, verb, time.monotonic())
        try:
            yield
        finally:
            self.activity = None

    def allreduce(self, *arrays: Array, op: Op = "sum") -> list[Array]:
        """Collective, one message (one for each 256 MiB). See Communicator.allreduce."""
        buffer = pack(arrays)
        with self._in("allreduce"):
            for piece in pieces(buffer):
                self._comm.Allreduce(MPI.IN_PLACE, piece, op=_OPS[op])
        return unpack(buffer, arrays)

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Collective, two small messages. See Communicator.bcast."""
        text = json.dumps(value).encode() if self.rank == root else b""
        length = np.array(len(text))
        with self._in("bcast"):
            self._comm.Bcast(length, root=root)
            buffer = bytearray(text) if self.rank == root else bytearray(int(length))
            self._comm.Bcast(buffer, root=root)
        return json.loads(bytes(buffer))

    def allgather(self, value: Any) -> list[Any]:
        """Collective, two small messages. See Communicator.allgather."""
        text = json.dumps(value).encode()
        counts = np.empty(self.size, np.int64)
        with self._in("allgather"):
            self._comm.Allgather(np.array([len(text)], np.int64), counts)
            buffer = np.empty(int(counts.sum()), np.uint8)
            self._comm.Allgatherv(np.frombuffer(text, np.uint8), (buffer, counts))
        return [json.loads(part.tobytes()) for part in np.split(buffer, np.cumsum(counts)[:-1])]

    def alltoall(self, buffers: Sequence[Array]) -> list[Array]:
        """Collective, two messages. See Communicator.alltoall."""
        send_counts = np.array([buffer.size for buffer in buffers], np.int64)
        counts = np.empty_like(send_counts)
        with self._in("alltoall"):
            self._comm.Alltoall(send_counts, counts)
            received = np.empty(int(counts.sum()), np.uint8)
            sent = np.concatenate([np.asarray(buffer, np.uint8) for buffer in buffers])
            self._comm.Alltoallv((sent, send_counts), (received, counts))
        return np.split(received, np.cumsum(counts)[:-1])

    def split(self, color: int) -> Communicator:
        """Collective. See Communicator.split."""
        with self._in("split"):
            return MPICommunicator(self._comm.Split(color, self.rank))

    def node(self) -> Communicator:
        """Collective at its first call. See Communicator.node."""
        if self._node is None:
            with self._in("node"):
                self._node = MPICommunicator(self._comm.Split_type(MPI.COMM_TYPE_SHARED, self.rank))
        return self._node

    def mailbox(self) -> Mailbox:
        """Collective at its first call. See Communicator.mailbox."""
        if self._mailbox is None:
            from hpcml.collectives.mpi_mailbox import MPIMailbox  # few runs write letters

            with self._in("mailbox"):
                self._mailbox = MPIMailbox(self._comm.Dup(), self._waits_for_letters)
        return self._mailbox

    @contextmanager
    def _waits_for_letters(self) -> Iterator[None]:
        # No new number: ranks wait for different letters, between the same two collectives.
        self.activity = Activity(self._sequence, "mailbox", time.monotonic())
        try:
            yield
        finally:
            self.activity = None

    def abort(self, code: int) -> None:
        """Local: end every rank of the world. See Communicator.abort."""
        let_through()
        MPI.COMM_WORLD.Abort(code)


def library_version() -> str:
    """Return what the MPI library calls itself. Local."""
    return MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\x00 ")


def open_mpi_world(environ: Mapping[str, str] = os.environ) -> MPICommunicator:
    """Return a communicator of all ranks that the launcher started. Collective, no message.

    Raises
    ------
    SpecError
        MPI sees another number of ranks than the launcher started: N programs of one rank each,
        usually because the launcher belongs to another MPI library.
    """
    size, expected = MPI.COMM_WORLD.Get_size(), expected_size(environ)
    if expected is not None and expected != size:
        raise SpecError(
            f"the launcher started {expected} ranks but MPI ({library_version()}) sees {size}: the launcher "
            "belongs to another MPI; use the mpiexec of this library, or srun --mpi=pmi2 for MPICH, "
            "--mpi=pmix for Open MPI"
        )
    return MPICommunicator(MPI.COMM_WORLD)
