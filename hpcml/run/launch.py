"""How many ranks, and who starts them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hpcml.collectives.launch import is_launched
from hpcml.errors import SpecError
from hpcml.process import run_child
from hpcml.run.directory import RunDirectory
from hpcml.spec import Spec

__all__ = ["is_launched", "launch", "one_blas_thread", "wanted_ranks"]

_DOCUMENTED = (0, 2, 3, 4, 5, 75)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def one_blas_thread(spec: Spec | None = None) -> None:
    """Set this process's environment before NumPy is there: the spec's, and one BLAS thread. Local.

    More threads would change the bits, and on a node full of ranks slow all of them down.
    """
    assert "numpy" not in sys.modules, "NumPy has already chosen its threads"
    os.environ.update(spec.env if spec else {})
    os.environ.update(dict.fromkeys(_THREADS, "1"))


def wanted_ranks(spec: Spec | None, n: int | None) -> int:
    """Return the number of ranks to start: -n, else the spec's, else one. Local."""
    if n is not None and n < 1:
        raise SpecError(f"-n: {n} ranks cannot work; give 1 or more")
    return n or (spec.resources.n_ranks if spec else 1)


def _mpiexec(name: str) -> str:
    given = os.environ.get("HPCML_MPIEXEC")
    names = [name] if name not in ("auto", "srun") else ["mpiexec", "mpirun"]
    for name in names:
        beside = Path(sys.prefix, "bin", name)
        found = given or (str(beside) if beside.exists() else shutil.which(name))
        if found:
            return found
    raise SpecError(
        f"-n: there is no {' or '.join(names)} to start ranks with; pip install 'hpcml[mpi]', load "
        "the site's MPI module, or run with -n 1"
    )


def launch(spec: Spec | None, n: int, arguments: Sequence[str], directory: RunDirectory | None) -> int:
    """Start `hpcml` with `arguments` on n ranks and return the job's exit code. Local.

    A launcher may lose the code of a rank that aborts; then error.json in the run directory has it.
    """
    env = dict(os.environ, HPCML_EXPECT_SIZE=str(n))
    # Open MPI refuses more ranks than cores unless told; the number of ranks was asked for.
    env.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    env.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")
    before = _error_identity(directory)
    launcher = _mpiexec(spec.resources.launcher if spec else "auto")
    options = spec.resources.launcher_args if spec else ()
    argv = [launcher, *options, "-n", str(n), sys.executable, "-m", "hpcml", *arguments]
    code = run_child(argv, env)
    if code in _DOCUMENTED:
        return code
    after = _error_identity(directory)
    if directory is None:
        return 1
    if after == before:
        _record_end(directory, code)
    report = directory.read_json("error.json") or {}
    return int(report.get("exit_code", 1))


def _record_end(directory: RunDirectory, code: int) -> None:
    """Leave word of a job whose ranks could not: they were killed, or the launcher was."""
    if directory.state.get("state") != "running":
        return
    cause = f"the job was ended from outside (exit code {code} of the launcher)"
    sentence = f"{cause}; hpcml resume {directory.path} goes on"
    directory.record_failure({"rank": None, "exit_code": 1, "kind": "Killed", "message": sentence})
    sys.stderr.write(f"hpcml: {sentence}\n")


def _error_identity(directory: RunDirectory | None) -> tuple[int, int] | None:
    if directory is None or not directory.error.exists():
        return None
    status = directory.error.stat()
    return status.st_ino, status.st_mtime_ns
