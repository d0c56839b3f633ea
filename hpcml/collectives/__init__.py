"""Everything that crosses ranks.

Names load on first use: the abort hook stands in this package and must be on before NumPy is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcml.collectives.agreement import agreed
    from hpcml.collectives.communicator import Communicator, SerialCommunicator
    from hpcml.collectives.counting import CountingCommunicator
    from hpcml.collectives.reproducible import reproducible_sum
    from hpcml.collectives.startup import world
    from hpcml.collectives.thread import ThreadCommunicator, run_threads

_HOMES = {
    "Communicator": "communicator",
    "CountingCommunicator": "counting",
    "SerialCommunicator": "communicator",
    "ThreadCommunicator": "thread",
    "agreed": "agreement",
    "reproducible_sum": "reproducible",
    "run_threads": "thread",
    "world": "startup",
}
__all__ = [
    "Communicator",
    "CountingCommunicator",
    "SerialCommunicator",
    "ThreadCommunicator",
    "agreed",
    "reproducible_sum",
    "run_threads",
    "world",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
