"""What the launcher's environment says, and the refusal to run N programs of one rank."""

from __future__ import annotations

import subprocess
import sys

import harness
import pytest

from hpcml.collectives.launch import expected_size, is_launched, launched_rank

OPEN = "from hpcml.collectives import world; comm = world(); print(type(comm).__name__, comm.rank, comm.size)"


def start(env):
    return subprocess.run(
        [sys.executable, "-c", OPEN],
        env=harness.clean_environment(env),
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environ", "size", "rank"),
    [
        ({}, None, None),
        ({"PMI_SIZE": "3", "PMI_RANK": "2"}, 3, 2),
        ({"PMIX_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"}, 4, 1),
        ({"HPCML_EXPECT_SIZE": "5", "PMI_SIZE": "1", "PMI_RANK": "0"}, 5, 0),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "8"}, 8, 2),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None, None),  # a batch shell: no launcher yet
        ({"PMI_SIZE": "", "PMI_RANK": "x"}, None, None),
    ],
)
def test_what_the_environment_says(environ, size, rank):
    assert (expected_size(environ), launched_rank(environ)) == (size, rank)
    assert is_launched(environ) == (rank is not None)


def test_without_a_launcher_there_is_no_mpi():
    code = f"{OPEN}; import sys; print('mpi4py' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=harness.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["SerialCommunicator", "0", "1", "False"]


@pytest.mark.parametrize(
    "env",
    [
        {"PMI_SIZE": "3", "PMI_RANK": "0"},
        {"HPCML_EXPECT_SIZE": "3", "PMI_SIZE": "1", "PMI_RANK": "0"},
        {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"},
        {"HPCML_EXPECT_SIZE": "3"},
    ],
    ids="+".join,
)
def test_programs_of_one_rank_are_refused(env):
    done = start(env)
    assert done.returncode != 0
    assert "3 ranks" in done.stderr
    assert "SpecError" in done.stderr
    assert not done.stdout


def test_one_rank_under_a_launcher_is_mpi(mpirun):
    done = mpirun(1, ["-c", OPEN], check=0)
    assert done.stdout.split() == ["MPICommunicator", "0", "1"]


def test_two_jobs_under_a_size_that_is_expected(mpirun):
    done = mpirun(2, ["-c", OPEN], env={"HPCML_EXPECT_SIZE": "4"}, timeout=30)
    assert done.returncode != 0
    assert "the launcher started 4 ranks but MPI" in done.stderr
    assert "sees 2" in done.stderr


def test_comm_as_an_argument():
    from hpcml.collectives import SerialCommunicator
    from hpcml.collectives.startup import resolved
    from hpcml.errors import SpecError

    comm = SerialCommunicator()
    assert resolved(comm) is comm
    assert isinstance(resolved(None), SerialCommunicator)
    assert isinstance(resolved("world"), SerialCommunicator)
    with pytest.raises(SpecError, match="'all'"):
        resolved("all")
