"""Who waits for a letter is ended with the others, and seen by the watchdog; contract.py has the rest."""

from __future__ import annotations

import time

import pytest
from collectives.test_watchdog import program

from hpcml.collectives import run_threads
from hpcml.collectives.mailbox import LeftAloneError


def test_a_failing_thread_ends_those_that_wait():
    def waiting(comm):
        if comm.rank == 1:
            raise ValueError("only here")
        comm.mailbox().wait()

    begin = time.monotonic()
    with pytest.raises(ValueError, match="only here"):
        run_threads(3, waiting)
    assert time.monotonic() - begin < 5


def test_a_letter_that_nobody_writes():
    with pytest.raises(LeftAloneError, match="rank 0 waited for a letter that did not come"):
        run_threads(2, lambda comm: comm.mailbox().wait(), timeout=0.2)


def test_a_frozen_rank_is_named_and_the_job_ended(spmd, tmp_path):
    then = "box = comm.mailbox(); os.kill(os.getpid(), signal.SIGSTOP) if comm.rank == 2 else box.wait()"
    done = spmd(3, program(then), tmp_path, timeout=25)
    assert done.returncode != 0
    assert done.survivors == ()
    assert "in mailbox #" in done.stderr
    assert "not there: rank 2 (silent)" in done.stderr
    assert "; the job ends" in done.stderr


def test_a_rank_at_work_is_waited_for(spmd, tmp_path):
    then = (
        "box = comm.mailbox(); (time.sleep(3), box.post(0, np.ones(1))) if comm.rank else box.wait(); "
        "box.settle()"
    )
    done = spmd(2, program(then, name_after=0.6, end_after=1.2), tmp_path, timeout=25, check=0)
    assert done.lines == ["done"] * 2
    assert "not there: rank 1 (at work" in done.stderr
    assert "the job ends" not in done.stderr
