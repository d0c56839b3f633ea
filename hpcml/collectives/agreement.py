"""Errors that all ranks agree on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hpcml import errors
from hpcml.collectives.communicator import Communicator
from hpcml.errors import HpcmlError, shared

__all__ = ["agreed"]


@contextmanager
def agreed(comm: Communicator) -> Iterator[None]:
    """Run a Local piece of work; if it raises an HpcmlError on any rank, all ranks raise it.

    Collective, one small message at the end (two more after an error). The error is that of the
    lowest failing rank. Other exceptions are bugs: they leave at once and end the job through the
    abort hook. The work must not communicate: a rank that failed would not take part.

    Raises
    ------
    HpcmlError
        Of the failing rank's class, with its sentence.
    """
    error: HpcmlError | None = None
    try:
        yield
    except HpcmlError as caught:
        error = caught
    mine = comm.size if error is None else comm.rank
    (first,) = comm.allreduce(np.array([mine]), op="min")
    if first[0] == comm.size:
        return
    kind, sentence = comm.bcast([_public_name(error), str(error)], root=int(first[0]))
    if error is not None and comm.rank == first[0]:
        raise shared(error)
    raise shared(getattr(errors, kind)(sentence))


def _public_name(error: HpcmlError | None) -> str:
    """Return the name of the nearest class that every rank knows."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__), "")
