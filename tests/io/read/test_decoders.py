"""Work shared with other threads: all of it, at once, and its errors."""

from __future__ import annotations

import threading

import pytest

from hpcml.io.read.decoders import Decoders


@pytest.fixture
def decoders():
    made = Decoders(3)
    yield made
    made.close()


def test_the_caller_works_beside_the_others(decoders):
    together, seen = threading.Barrier(3), []

    def task():
        together.wait(20)  # only three threads at once come past it
        seen.append(threading.get_ident())

    decoders.run([task] * 3)
    assert len(set(seen)) == 3 and threading.get_ident() in seen


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_every_task_runs_once(decoders, n):
    seen = []
    decoders.run([lambda i=i: seen.append(i) for i in range(n)])
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("which", range(3))
def test_an_error_of_any_thread_is_raised_when_all_have_stopped(decoders, which):
    together, ended = threading.Barrier(3), []

    def task(i):
        together.wait(20)
        if i == which:
            raise ValueError(f"task {i}")
        ended.append(i)

    with pytest.raises(ValueError, match=f"task {which}"):
        decoders.run([lambda i=i: task(i) for i in range(3)])
    assert len(ended) == 2
