"""A file described by a child process first, so that one crafted to crash HDF5 ends that child alone."""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from hpcml.errors import DataError
from hpcml.io.sizes import human_bytes
from hpcml.process import run_aside

__all__ = ["answer", "preflight"]

_CPU_SECONDS = 60
_MEMORY = 2 << 30  # beyond what Python, NumPy and HDF5 take themselves
_WAIT_SECONDS = 300.0
_TIMED_OUT = 124
_OUT_OF_MEMORY = 12
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from hpcml.io.describe.preflight import answer; answer(*sys.argv[2:])"
)


def preflight(path: Path) -> dict[str, Any]:
    """Return what `describe_file` finds in a file, found by a process of its own. Local; before MPI starts.

    The child may use 60 s of processor time, 300 s in all, and 2 GiB of memory.

    Raises
    ------
    DataError
        It cannot be opened as HDF5, or it killed the child or used up what that may use.
    """
    home = Path(__file__).parents[3]  # -P: never import from the working directory
    argv = [sys.executable, "-P", "-c", _PROGRAM, home, _CPU_SECONDS, _MEMORY, path]
    code, text = run_aside(list(map(str, argv)), _WAIT_SECONDS)
    if code:
        raise DataError(f"{path}: rejected: {_cause(code)}")
    found: dict[str, Any] = json.loads(text)
    if "error" in found:
        raise DataError(found["error"])
    return found


def _cause(code: int) -> str:
    what = "reading its structure"
    if code == 128 + signal.SIGXCPU:
        return f"{what} took more than {_CPU_SECONDS} s of processor time"
    if code == _TIMED_OUT:
        return f"{what} took more than {_WAIT_SECONDS:g} s"
    if code == _OUT_OF_MEMORY:
        return f"{what} takes more than {human_bytes(_MEMORY)} of memory"
    if code > 128:
        return f"{what} killed a process (signal {code - 128})"
    return f"{what} ended a process with the exit code {code}"


def answer(cpu_seconds: str, memory: str, path: str) -> None:
    """Describe a file as JSON on standard output, within limits: what the child does. Local."""
    from hpcml.io.describe.file import describe_file

    _limit(int(cpu_seconds), int(memory))
    try:
        found = describe_file(Path(path))
    except DataError as error:
        found = {"error": str(error)}
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    sys.stdout.write(json.dumps(found))


def _limit(cpu_seconds: int, memory: int) -> None:
    """Bound this process, memory counted from what it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: pages * resource.getpagesize() + memory,
    }
    for what, most in wanted.items():
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
