"""Every communicator keeps one contract."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from collectives import contract

from hpcml.collectives import CountingCommunicator, SerialCommunicator, agreed, run_threads
from hpcml.errors import CollectiveError, DataError

NAMES = [check.__name__ for check in contract.CHECKS]


@pytest.mark.parametrize("check", contract.CHECKS, ids=NAMES)
def test_serial(check):
    check(SerialCommunicator())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("check", contract.CHECKS, ids=NAMES)
def test_threads(check, size):
    run_threads(size, check)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_mpi(mpirun, size):
    done = mpirun(size, contract.__file__, check=0, timeout=60)
    assert done.lines == [f"kept {rank}" for rank in range(size)]
    assert done.survivors == ()


def test_threads_meet_many_times():
    def program(comm):
        return [int(comm.allreduce(np.array([comm.rank * i]))[0][0]) for i in range(300)]

    found = run_threads(5, program)
    assert found == [[10 * i for i in range(300)]] * 5


def test_a_failing_thread_ends_the_others_wherever_they_wait():
    def program(comm):
        part = comm.split(0)
        if comm.rank == 1:
            raise ValueError("only here")
        part.allgather(1)

    begin = time.monotonic()
    with pytest.raises(ValueError, match="only here"):
        run_threads(3, program)
    assert time.monotonic() - begin < 5


def test_a_thread_that_does_not_come_is_not_waited_for_for_ever():
    gone = threading.Event()

    def program(comm):
        if comm.rank == 0:
            comm.bcast(1)
        gone.set()

    with pytest.raises(CollectiveError, match="rank 0 waited"):
        run_threads(2, program, timeout=0.2)


def test_an_internal_error_passes_through_agreed():
    def program(comm):
        with agreed(comm):
            if comm.rank == 1:
                raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_threads(3, program)


def test_agreed_takes_one_message_and_three_after_an_error():
    counting = CountingCommunicator(SerialCommunicator())
    with agreed(counting):
        pass
    assert counting.calls == {"allreduce": 1}
    with pytest.raises(DataError), agreed(counting):
        raise DataError("x")
    assert counting.calls == {"allreduce": 2, "bcast": 1}
