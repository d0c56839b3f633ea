"""The abort hook: a rank that fails ends the whole job.

Installed by the first line of the package, before NumPy, because most failures that strike
one rank strike early (a flaky mount, a missing library), when no other code is there to help.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from hpcml.collectives.launch import is_launched, launched_rank
from hpcml.errors import HpcmlError

__all__ = ["end_job", "end_job_after_the_first", "install", "let_through", "on_failure"]

_GRACE = 2.0
"""Seconds that a rank leaving with an error waits for the others to leave as well."""
_LAST_RESORT = 4
"""Seconds after which a rank that cannot end the job in order is killed, which launchers notice."""

_uncaught: list[int] = []
_HEAD_START = 1.0  # seconds
_FORWARDING = 0.3  # seconds for a launcher to pass on what was written: at an abort MPICH drops the rest
_before_abort: list[Callable[[BaseException, str], bool]] = []


def on_failure(report: Callable[[BaseException, str], bool]) -> None:
    """Have `report(error, traceback text)` called before a job is aborted. Local.

    It says whether the traceback should be printed; a run answers True for its first failure alone.
    """
    _before_abort.append(report)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, absent, a full disk: the job must end all the same
            stream.flush()


def let_through() -> None:
    """Give the launcher the time to pass on what this rank has written, before an abort. Local."""
    _flush()
    time.sleep(_FORWARDING)


def _joined_mpi() -> Any:
    """Return mpi4py.MPI, started if need be: only a rank that takes part in MPI can end the others.

    MPI starts when all ranks come to it. Where some never do, SIGALRM kills this process: MPICH's
    launcher overlooks an exit code before MPI starts, but no launcher overlooks a signal.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_LAST_RESORT)
    from mpi4py import MPI

    return MPI


def end_job(code: int) -> None:
    """End every rank of this job with `code`, as far as the launcher passes it on.

    Local: nothing collective may stand in an error path. Returns where no launcher is.
    """
    _flush()
    if not is_launched():
        return
    let_through()
    try:
        MPI = _joined_mpi()
        if not MPI.Is_finalized():
            MPI.COMM_WORLD.Abort(code)
    except (ImportError, RuntimeError):
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(code)


def end_job_after_the_first(code: int) -> None:
    """End the job for a rank that was not the first to fail. Local.

    The first one speaks and ends the job; ended by this one, it might not come to its sentence. Should it die
    before, this rank ends the job a second later.
    """
    _flush()
    time.sleep(_HEAD_START)
    end_job(code)


def _all_leave() -> bool:
    """Tell whether all ranks come here within the grace. The package itself never uses this communicator."""
    MPI = _joined_mpi()
    if MPI.Is_finalized():
        return True
    request = MPI.COMM_WORLD.Ibarrier()
    deadline = time.monotonic() + _GRACE
    while not (done := request.Test()) and time.monotonic() < deadline:
        time.sleep(0.01)
    signal.alarm(0)
    return bool(done)


def _leave(code: int) -> None:
    """Let this rank end with `code` if all ranks end so; otherwise end the job."""
    with contextlib.suppress(ImportError, RuntimeError):
        if _all_leave():
            return
    end_job(code)


class _Leaving:
    """Rides on a SystemExit and is dropped with it.

    No hook sees a SystemExit, and one that is caught means nothing. One that nobody catches is dropped by
    the interpreter itself: after the last Python frame, before its handlers at exit run.
    """

    def __init__(self, code: int) -> None:
        self.code = code

    def __del__(self) -> None:
        if sys._getframe().f_back is None:
            _uncaught.append(self.code)


def _at_exit() -> None:
    """Take part in the end of a process that leaves with an error."""
    for code in _uncaught:
        _flush()
        _leave(code)


def _leaving(status: object) -> SystemExit:
    """Return the SystemExit of a status as sys.exit takes it; None and 0 are success."""
    error = SystemExit(status)
    if status is not None and status != 0:
        error.__dict__["leaving"] = _Leaving(status & 0xFF if isinstance(status, int) else 1)
    return error


def _exit(status: object = None, /) -> NoReturn:
    """Stand in for sys.exit. The error is no local variable: its traceback would keep it alive."""
    raise _leaving(status)


def _wants_traceback(error: BaseException, text: str) -> bool:
    answers = [report(error, text) for report in _before_abort]
    return all(answers)


def _fail(error: BaseException, text: str) -> None:
    """Speak and end the job; never return to an interpreter that would wait in MPI's finalisation."""
    is_main = threading.current_thread() is threading.main_thread()
    together = isinstance(error, HpcmlError) and error.on_all_ranks and is_main
    rank = launched_rank()
    speaks = True
    try:
        speaks = _wants_traceback(error, text)
        if speaks and not (together and rank):
            # One that all ranks raise needs no rank: a sentence for the user, once.
            prefix = "" if rank is None or together else f"rank {rank}: "
            lines = [str(error)] if together else text.rstrip().splitlines()
            sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines))
    finally:
        code = error.exit_code if isinstance(error, HpcmlError) else 1
        if not together:
            (end_job if speaks else end_job_after_the_first)(code)
    if together:
        # From a hook, the interpreter takes this for its own exit: with the code, and MPI's end in order.
        raise _leaving(code)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _fail(error, "".join(traceback.format_exception(kind, error, trace)))


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):  # that ends a thread alone
        _excepthook(args.exc_type, args.exc_value, args.exc_traceback)


def install() -> None:
    """Install the hook for this process and its threads, where a launcher started it. Local."""
    if is_launched() and sys.excepthook is not _excepthook:
        sys.excepthook = _excepthook
        threading.excepthook = _thread_excepthook
        sys.exit = _exit
        atexit.register(_at_exit)
