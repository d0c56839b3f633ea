"""All ranks' rows on one rank."""

from __future__ import annotations

import numpy as np

from hpcml.collectives.communicator import Array, Communicator

__all__ = ["on_first"]


def on_first(comm: Communicator, values: Array) -> Array:
    """Return the values of all ranks, in order, on the first rank; elsewhere none.

    Collective, two messages.

    Parameters
    ----------
    comm : Communicator
    values : (my rows,) array
        Of one dtype on every rank, structured ones included.
    """
    nothing = np.zeros(0, np.uint8)
    received = comm.alltoall([values.view(np.uint8), *[nothing] * (comm.size - 1)])
    return np.concatenate(received).view(values.dtype)
