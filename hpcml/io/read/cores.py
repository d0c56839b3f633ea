"""How many cores this process may use besides the one it computes on."""

from __future__ import annotations

import os

from hpcml.collectives import Communicator

__all__ = ["cores_of_this_process"]


def cores_of_this_process(comm: Communicator) -> int:
    """Return this process's share of the cores it may run on, at least one.

    Collective, two small messages. Processes that may run on the same cores share them; those bound to cores
    of their own do not. No number of a result follows from it.
    """
    mine = sorted(os.sched_getaffinity(0))
    others = comm.node().allgather(mine)
    return max(1, len(mine) // sum(1 for cores in others if set(cores) & set(mine)))
