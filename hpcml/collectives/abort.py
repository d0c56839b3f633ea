"""The abort hook: an uncaught exception on one rank ends the whole job.

Installed by the first line of the package, before NumPy, because most failures that strike
one rank strike early (a flaky mount, a missing library), when no other code is there to help.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

from hpcml.collectives.launch import is_launched, launched_rank

__all__ = ["end_job", "install", "on_failure"]

_before_abort: list[Callable[[BaseException, str], bool]] = []


def on_failure(report: Callable[[BaseException, str], bool]) -> None:
    """Have `report(error, traceback text)` called before a job is aborted. Local.

    It says whether the traceback should be printed; a run answers True for its first failure alone.
    """
    _before_abort.append(report)


def end_job(code: int) -> None:
    """End every rank of this job with `code`, as far as the launcher passes it on.

    Local: nothing collective may stand in an error path. Returns where no launcher is.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not is_launched():
        return
    try:
        # A rank that fails before MPI starts leaves the others waiting in its initialisation:
        # only a rank that takes part in MPI can end them.
        from mpi4py import MPI

        if not MPI.Is_finalized():
            MPI.COMM_WORLD.Abort(code)
    except (ImportError, RuntimeError):
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(code)


def _fail(error: BaseException, text: str) -> None:
    rank = launched_rank()
    if all([report(error, text) for report in _before_abort]):
        where = "" if rank is None else f"rank {rank}: "
        sys.stderr.write("".join(f"{where}{line}\n" for line in text.rstrip().splitlines()))
    end_job(getattr(error, "exit_code", 1))


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _fail(error, "".join(traceback.format_exception(kind, error, trace)))


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _excepthook(args.exc_type, args.exc_value, args.exc_traceback)


def install() -> None:
    """Install the hook for this process and its threads, where a launcher started it. Local."""
    if is_launched() and sys.excepthook is not _excepthook:
        sys.excepthook = _excepthook
        threading.excepthook = _thread_excepthook
