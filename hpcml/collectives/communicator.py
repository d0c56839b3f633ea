"""The handful of verbs that cross ranks, and the communicator of one rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hpcml.collectives.mailbox import Mailbox

__all__ = ["Activity", "Array", "Communicator", "Op", "SerialCommunicator", "as_received"]

Array: TypeAlias = NDArray[Any]
Op = Literal["sum", "max", "min"]


class Activity(NamedTuple):
    """The collective that a rank is in."""

    sequence: int
    verb: str
    since: float


def as_received(value: Any) -> Any:
    """Return `value` as it arrives on another rank: through JSON, which makes tuples lists. Local.

    Raises
    ------
    TypeError
        JSON cannot say it.
    """
    return json.loads(json.dumps(value))


class Communicator(Protocol):
    """Ranks that work together.

    Every verb is Collective: all ranks call it, in the same order. Arrays of a reduction have
    one dtype (int64 or float64) and the same shapes on every rank; results are new arrays.
    """

    @property
    def rank(self) -> int:
        """The number of this process, 0 <= rank < size. Local."""

    @property
    def size(self) -> int:
        """The number of ranks. Local."""

    def allreduce(self, *arrays: Array, op: Op = "sum") -> list[Array]:
        """Return the elementwise sum, maximum or minimum over ranks. Collective, one message."""

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Return root's `value`, anything that JSON can say. Collective, two small messages."""

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order, JSON again. Collective, two small messages."""

    def alltoall(self, buffers: Sequence[Array]) -> list[Array]:
        """Send `buffers[r]`, a 1-D uint8 array, to rank r; return what came from each rank.

        Collective, two messages.
        """

    def split(self, color: int) -> Communicator:
        """Return the communicator of the ranks that gave the same `color`. Collective."""

    def node(self) -> Communicator:
        """Return the ranks that share this node's memory. Collective at its first call, Local after it."""

    def mailbox(self) -> Mailbox:
        """Return the mailbox of these ranks. Collective at its first call, Local after it."""

    def abort(self, code: int) -> None:
        """End all ranks at once. Local."""


class SerialCommunicator:
    """One rank without MPI: each verb returns what it was given."""

    rank = 0
    size = 1

    def allreduce(self, *arrays: Array, op: Op = "sum") -> list[Array]:
        """Return copies of `arrays`. Local."""
        return [np.array(array) for array in arrays]

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Return `value` as another rank would have it. Local."""
        return as_received(value)

    def allgather(self, value: Any) -> list[Any]:
        """Return `[value]` as another rank would have it. Local."""
        return [as_received(value)]

    def alltoall(self, buffers: Sequence[Array]) -> list[Array]:
        """Return `buffers`. Local."""
        return list(buffers)

    def split(self, color: int) -> Communicator:
        """Return this communicator. Local."""
        return self

    def node(self) -> Communicator:
        """Return this communicator. Local."""
        return self

    def mailbox(self) -> Mailbox:
        """Return a mailbox of one place. Local."""
        from queue import SimpleQueue

        from hpcml.collectives.mailbox import QueueMailbox  # few runs write letters

        return QueueMailbox(0, [SimpleQueue()])

    def abort(self, code: int) -> None:
        """End this process. Local."""
        raise SystemExit(code)
