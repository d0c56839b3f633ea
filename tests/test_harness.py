"""The harness itself: it runs, it reports, it kills, and it keeps MPI out of this process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest

HELLO = """
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
    total = comm.allreduce(comm.rank)
    print(f"{comm.rank} of {comm.size}, sum {total}", flush=True)
"""


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ranks_form_one_world(spmd, n):
    done = spmd(n, HELLO, check=0)
    assert done.lines == [f"{i} of {n}, sum {sum(range(n))}" for i in range(n)]
    assert done.survivors == ()
    assert 0 < done.seconds < 60


def test_an_argv_and_its_arguments_reach_python(mpirun, tmp_path):
    done = mpirun(2, ["-c", "import os, sys; print(sys.argv[1:], os.getcwd())"], "a b", check=0, cwd=tmp_path)
    assert done.lines == [f"['a b'] {tmp_path}"] * 2


def test_stdout_and_stderr_stay_apart(spmd):
    done = spmd(1, "import sys; print('out'); print('err', file=sys.stderr)", check=0)
    assert done.stdout == "out\n"
    assert "err" in done.stderr and "out" not in done.stderr


def test_the_exit_code_arrives(spmd):
    assert spmd(2, "import os; os._exit(3)").returncode == 3


def test_an_unexpected_exit_code_fails_with_the_output(spmd):
    with pytest.raises(pytest.fail.Exception, match=r"(?s)exit code 0 expected.*last words"):
        spmd(1, "import sys; sys.exit('last words')", check=0)


def _gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # dead; some init has yet to notice
            return True
        time.sleep(0.05)
    return False


def test_a_hang_is_killed_with_all_its_ranks(spmd, tmp_path):
    text = """
        import os, pathlib, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        from mpi4py import MPI
        pathlib.Path(sys.argv[1], f"pid{MPI.COMM_WORLD.rank}").write_text(str(os.getpid()))
        print("hanging", flush=True)
        if MPI.COMM_WORLD.rank == 0:
            MPI.COMM_WORLD.recv(source=1)  # never sent
        time.sleep(1000)
    """
    start = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"(?s)killed after 3 s.*hanging"):
        spmd(2, text, tmp_path, timeout=3)
    assert time.monotonic() - start < 3 + harness.GRACE + 10
    pids = [int(path.read_text()) for path in tmp_path.glob("pid*")]
    assert len(pids) == 2
    assert all(map(_gone, pids))


def test_a_process_that_outlives_the_job_is_seen_and_ended(tmp_path):
    child = "import subprocess; print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)"
    done = harness.run_job([sys.executable, "-c", child], check=0)
    assert done.survivors == (int(done.stdout),)
    assert _gone(done.survivors[0])


def test_the_environment_is_cleaned(monkeypatch):
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "HYDI_X", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "20")
    env = harness.clean_environment({"MINE": "1", "HOME": None})
    assert not [name for name in env if env[name] == "7"]
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == env["MINE"] == "1"
    assert "HOME" not in env
    assert env["OMPI_ALLOW_RUN_AS_ROOT"] == "1"


def test_mpiexec_is_the_one_that_was_named(monkeypatch):
    monkeypatch.setenv("HPCML_MPIEXEC", "/nowhere/mpiexec")
    assert harness.find_mpiexec() == "/nowhere/mpiexec"


@pytest.mark.parametrize("at_top", [True, False])
def test_importing_mpi4py_here_fails_the_session(tmp_path, at_top):
    for name in ("conftest.py", "harness.py"):
        (tmp_path / name).write_text(Path(harness.__file__).with_name(name).read_text())
    body = "import mpi4py\ndef test_it(): pass\n" if at_top else "def test_it():\n    import mpi4py\n"
    (tmp_path / "test_it.py").write_text(body)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=harness.clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 passed" in done.stdout
    assert "mpi4py was imported" in done.stdout
    assert done.returncode == 1


def test_this_process_has_no_mpi():
    assert "mpi4py" not in sys.modules
