"""Start MPI jobs from tests: hard time-outs, a clean environment, no process left behind.

The process that runs pytest never imports mpi4py: an MPI that is initialised there would be
inherited by the launcher's environment, and a hang could not be ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

# What an outer launcher or batch job says about itself, which would mislead an inner one; and unbuffered
# output, under which print() writes a line and its end apart and the lines of ranks mix.
DROPPED = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPIEXEC_", "SLURM_", "HPCML_EXPECT_SIZE",
           "PYTHONUNBUFFERED")  # fmt: skip
FORCED = {
    # BLAS threads of all ranks on the same cores cost a factor of ten and more.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Open MPI 5, then 4.1: as root, and more ranks than cores.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
ROOT = Path(__file__).parent.parent  # ranks see the hpcml that is under test, installed or not
TAG = "HPCML_TEST_JOB"
GRACE = 5.0  # seconds from TERM to KILL


@dataclass(frozen=True)
class Completed:
    """A job that ended by itself: what it printed, its exit code, and the processes it forgot."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    survivors: tuple[int, ...]  # alive 1 s after the launcher's end; killed by now

    @property
    def lines(self) -> list[str]:
        """The lines of stdout, sorted: ranks print in any order."""
        return sorted(self.stdout.splitlines())

    def describe(self) -> str:
        """Everything a reader of a failed test wants."""
        return (
            f"{' '.join(self.argv)}\nexit code {self.returncode} after {self.seconds:.1f} s"
            f"\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )


def find_mpiexec() -> str:
    """Return $HPCML_MPIEXEC, else the environment's own mpiexec, else the one on PATH; or fail."""
    beside = Path(sys.prefix, "bin", "mpiexec")
    found = os.environ.get("HPCML_MPIEXEC") or (str(beside) if beside.exists() else shutil.which("mpiexec"))
    if not found:
        pytest.fail("no mpiexec: install hpcml[mpi], load the site's MPI module, or set HPCML_MPIEXEC")
    return found


def clean_environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return os.environ without DROPPED, with FORCED and then `extra` (None removes a name)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    path = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    merged: dict[str, str | None] = {**env, **FORCED, "PYTHONPATH": path, **(extra or {})}
    return {name: value for name, value in merged.items() if value is not None}


def tagged_processes(tag: str) -> tuple[int, ...]:
    """Return the live processes started with TAG=tag, in whatever group or session (Linux)."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in entry.joinpath("environ").read_bytes().split(b"\0"):  # a zombie's is empty
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return tuple(found)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes], tag: str) -> None:
    """End a job: TERM to its group, KILL after GRACE, then KILL to whatever left the group."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    _signal(process, signal.SIGKILL)
    for pid in tagged_processes(tag):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _survivors(tag: str, seconds: float = 1.0) -> tuple[int, ...]:
    """Return what of the job is still alive after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (alive := tagged_processes(tag)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def run_job(
    argv: Sequence[str],
    *,
    timeout: float = 60.0,
    env: Mapping[str, str | None] | None = None,
    check: int | None = None,
    cwd: str | Path | None = None,
) -> Completed:
    """Run `argv` in a session of its own; fail after `timeout` s, or if `check` is not its exit code.

    Output goes to files: a process that outlives the launcher cannot hold a pipe, and with it the test, open.
    """
    tag = uuid.uuid4().hex
    environment = {**clean_environment(env), TAG: tag}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        timed_out = False
        survivors: tuple[int, ...] = ()
        try:
            process.wait(timeout)
            survivors = _survivors(tag)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:  # also when pytest-timeout or Ctrl-C ends the wait
            seconds = time.monotonic() - start
            _end(process, tag)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    done = Completed(tuple(argv), process.returncode, texts[0], texts[1], seconds, survivors)
    if timed_out:
        pytest.fail(f"killed after {timeout:g} s: {done.describe()}", pytrace=False)
    if check is not None and done.returncode != check:
        pytest.fail(f"exit code {check} expected: {done.describe()}", pytrace=False)
    return done


def mpirun(
    n: int,
    program: str | Path | Sequence[str],
    *args: str | Path,
    timeout: float = 60.0,
    env: Mapping[str, str | None] | None = None,
    check: int | None = None,
    cwd: str | Path | None = None,
    launcher_args: Sequence[str] = (),
) -> Completed:
    """Run `mpiexec -n N python PROGRAM ARGS`.

    PROGRAM is a script's path, or a list such as ["-m", "hpcml", "run"].
    """
    words = [program] if isinstance(program, str | Path) else program
    argv = [find_mpiexec(), *launcher_args, "-n", str(n), sys.executable, *map(str, words), *map(str, args)]
    return run_job(argv, timeout=timeout, env=env, check=check, cwd=cwd)
