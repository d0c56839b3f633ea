"""The one door to other processes: start a launcher, ask git, watch the parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

__all__ = ["capture", "die_with_parent", "run_aside", "run_child"]

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def run_child(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run `argv` to its end and return its exit code; signals meant for us go to it.

    Local. A child ended by a signal gives 128 + the signal's number, as a shell does.
    """
    child = subprocess.Popen(list(argv), env=dict(env), preexec_fn=_end_with_parent)  # noqa: PLW1509
    passed_on = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, lambda n, _: child.send_signal(n)) for number in passed_on}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def capture(argv: Sequence[str], cwd: str | None = None, seconds: float = 5.0) -> str | None:
    """Return what `argv` prints, or None if it fails or takes longer than `seconds`. Local."""
    try:
        done = subprocess.run(list(argv), cwd=cwd, capture_output=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def run_aside(argv: Sequence[str], seconds: float) -> tuple[int, bytes]:
    """Run `argv`, which may well crash, and return its exit code and what it wrote to standard output. Local.

    A child ended by a signal gives 128 + the signal's number, one that took longer than `seconds` 124, as
    timeout(1) does. What it wrote to standard error is dropped.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
            preexec_fn=_end_with_parent,
        )
    except subprocess.TimeoutExpired:
        return 124, b""
    return (128 - done.returncode if done.returncode < 0 else done.returncode), done.stdout


def die_with_parent(every: float = 1.0) -> None:
    """End this process within `every` seconds of its parent's death. Local.

    A launcher that is killed cannot tell its ranks; a rank that sees itself adopted by
    another process ends. A daemon thread looks, so a rank blocked in MPI ends as well.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="hpcml-parent-watch", daemon=True).start()
