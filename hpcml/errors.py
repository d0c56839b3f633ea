"""The errors that hpcml raises, and the exit code that each one ends a job with."""

from __future__ import annotations

from typing import TypeVar

__all__ = [
    "EXIT_CHECKPOINTED",
    "EXIT_NOT_CONVERGED",
    "CollectiveError",
    "DataError",
    "HpcmlError",
    "OutputError",
    "SpecError",
    "shared",
]

EXIT_NOT_CONVERGED = 4
EXIT_CHECKPOINTED = 75


class HpcmlError(Exception):
    """An error with a sentence for the user and an exit code for the job.

    Attributes
    ----------
    exit_code : int
    on_all_ranks : bool
        Every rank raises it at the same place, so every rank can end by itself.
    """

    exit_code = 1
    on_all_ranks = False


E = TypeVar("E", bound=HpcmlError)


def shared(error: E) -> E:
    """Mark an error that follows from reduced numbers: every rank raises it. Local."""
    error.on_all_ranks = True
    return error


class SpecError(HpcmlError, ValueError):
    """The spec, the command line or an estimator's parameter is wrong (exit 2)."""

    exit_code = 2


class DataError(HpcmlError, ValueError):
    """The data cannot be used as asked (exit 3)."""

    exit_code = 3


class OutputError(HpcmlError, OSError):
    """Results or scratch files could not be written (exit 5)."""

    exit_code = 5


class CollectiveError(HpcmlError):
    """Ranks disagree, or the launcher and the MPI library do not fit together."""
