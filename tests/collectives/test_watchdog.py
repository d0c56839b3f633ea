"""Late ranks are named; a job that waits for a silent one is ended, one that waits for work is not."""

from __future__ import annotations

import json
import time

import pytest

from hpcml.collectives import SerialCommunicator
from hpcml.collectives.communicator import Activity
from hpcml.collectives.watchdog import Watchdog, watch

SECONDS = 20.0  # an end, not a wait
PROGRAM = """
    import os, signal, sys, threading, time
    from pathlib import Path
    import numpy as np
    from hpcml.collectives import world
    from hpcml.collectives.watchdog import watch
    comm = world()
    say = lambda text: print(text, file=sys.stderr, flush=True)
    def end(text):
        say(text)
        comm.abort(1)
    watch(comm, Path(sys.argv[1]) / "watchdog", {name_after}, {end_after}, say, end)
    comm.allreduce(np.ones(1))
    {then}
    comm.allreduce(np.ones(1))
    print("done")
"""


def program(then, name_after=0.4, end_after=1.6):
    return PROGRAM.format(name_after=name_after, end_after=end_after, then=then)


def test_a_frozen_rank_is_named_and_the_job_ended(spmd, tmp_path):
    done = spmd(3, program("if comm.rank == 2: os.kill(os.getpid(), signal.SIGSTOP)"), tmp_path, timeout=25)
    assert done.returncode != 0
    assert done.seconds < SECONDS
    assert done.survivors == ()
    assert "not there: rank 2 (silent)" in done.stderr
    assert "; the job ends" in done.stderr
    assert "done" not in done.stdout


def test_a_rank_at_work_is_named_and_waited_for(spmd, tmp_path):
    done = spmd(
        3,
        program("if comm.rank == 1: time.sleep(6)", name_after=1.5, end_after=4.0),
        tmp_path,
        timeout=30,
        check=0,
    )
    assert done.lines == ["done"] * 3
    assert done.stderr.count("not there: rank 1 (at work at spmd0.py:") == 1
    assert "the job ends" not in done.stderr


def test_ranks_in_different_collectives_are_named_and_ended(spmd, tmp_path):
    done = spmd(2, program("if comm.rank == 1: comm.split(0)"), tmp_path, timeout=25)
    assert done.returncode != 0
    assert done.seconds < SECONDS
    assert "rank 1 (in split #2 at spmd0.py:" in done.stderr


def test_a_job_that_does_not_wait_writes_nothing(spmd, tmp_path):
    done = spmd(
        2,
        program("for _ in range(5): time.sleep(0.1); comm.allreduce(np.ones(1))", name_after=2.0),
        tmp_path,
        check=0,
    )
    assert done.stderr == ""
    assert not (tmp_path / "watchdog").exists()


class Waiting:
    """A rank that has been in one collective for ever."""

    size = 2

    def __init__(self, rank):
        self.rank = rank
        self.activity = Activity(1, "allreduce", time.monotonic() - 100)
        self.ended = []

    def end(self, sentence):
        self.ended.append(sentence)
        self.activity = None


def test_old_files_of_another_attempt_do_not_count(tmp_path):
    stale = {"state": "waits", "sequence": 1, "verb": "allreduce", "site": "a.py:1", "beat": 0.0}
    (tmp_path / "rank-1").write_text(json.dumps(stale))
    comm, said = Waiting(0), []
    Watchdog(comm, tmp_path, 0.2, 0.3, said.append, comm.end)
    deadline = time.monotonic() + 5
    while "silent" not in "".join(said) and not comm.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert comm.ended or "silent" in said[-1]


def test_a_directory_that_cannot_be_made_does_not_stop_the_watch(tmp_path):
    (tmp_path / "file").touch()
    comm, said = Waiting(0), []
    Watchdog(comm, tmp_path / "file" / "below", 0.2, 0.3, said.append, comm.end)
    deadline = time.monotonic() + 5
    while not comm.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(comm.ended) == 1
    assert "rank 1 (silent)" in said[0]


@pytest.mark.parametrize("comm", [SerialCommunicator()])
def test_no_watch_where_none_can_wait(comm, tmp_path):
    watch(comm, tmp_path, 0.1, 0.1, pytest.fail, pytest.fail)
    time.sleep(0.3)
