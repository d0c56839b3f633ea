"""Ranks on several nodes, as threads of one process."""

from __future__ import annotations

from typing import Any

from hpcml.collectives import Communicator

__all__ = ["Nodes"]


class Nodes:
    """A communicator whose rank r is on node r % n_nodes: the ranks of a node are no neighbours."""

    def __init__(self, comm: Communicator, n_nodes: int) -> None:
        self._comm = comm
        self._n_nodes = n_nodes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def node(self) -> Communicator:
        """Collective."""
        return self._comm.split(self._comm.rank % self._n_nodes)
