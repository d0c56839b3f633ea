"""Read units arrive in order whoever makes them; errors arrive too, and no thread outlives its pass."""

from __future__ import annotations

import threading
from itertools import count

import numpy as np
import pytest

from hpcml.errors import DataError
from hpcml.io.read.prefetch import ReadingTimes, prefetched
from hpcml.io.read.rows import Buffers

UNITS = list(range(7))


def held(n):
    return [Buffers() for _ in range(n)]


def slow():
    """Seconds so far of a computation that is worth a thread from the first unit on."""
    return ReadingTimes(reading=1.0, computing=1.0)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "hpcml-read"]


@pytest.mark.parametrize("n", [1, 2, 3, 9])
@pytest.mark.parametrize("times", [ReadingTimes, slow], ids=["from the start", "in a thread"])
def test_all_units_in_order(n, times):
    assert list(prefetched(UNITS, lambda unit, _: unit * 10, held(n), times())) == [u * 10 for u in UNITS]
    assert list(prefetched([], lambda unit, _: unit, held(n), times())) == []
    assert threads() == []


def test_a_unit_keeps_its_memory_until_the_next_is_asked_for():
    def make(unit, buffers):
        array = buffers.array("x", (1,), np.dtype(np.int64))
        array[0] = unit
        made[unit].set()
        return array

    made = [threading.Event() for _ in UNITS]
    arrays = []
    for unit, array in enumerate(prefetched(UNITS, make, held(3), slow())):
        for ahead in made[unit : unit + 3]:
            assert ahead.wait(30)
        assert array[0] == unit  # though the two next ones are made
        arrays.append(array)
    assert len({array.ctypes.data for array in arrays}) == 3


def test_the_thread_reads_ahead_no_further_than_it_has_memory():
    made, reached = [], threading.Event()

    def make(unit, buffers):
        made.append(unit)
        if len(made) == 3:
            reached.set()
        return unit

    units = prefetched(UNITS, make, held(3), slow())
    assert next(units) == 0
    assert reached.wait(30)  # two more are made while the first one is in use
    assert made == [0, 1, 2]  # and none besides: there is no memory for it
    assert list(units) == UNITS[1:]


def test_with_one_buffer_or_a_short_computation_there_is_no_thread():
    callers = []

    def make(unit, buffers):
        callers.append(threading.current_thread())
        return unit

    list(prefetched(UNITS, make, held(1), slow()))
    list(prefetched(UNITS, make, held(3), ReadingTimes(reading=1e9)))
    assert set(callers) == {threading.main_thread()}
    list(prefetched(UNITS, make, held(2), slow()))
    assert callers[-1] is not threading.main_thread()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("bad", [0, 3, 6])
@pytest.mark.parametrize("error", [DataError("rows are gone"), KeyboardInterrupt(), MemoryError()])
def test_what_goes_wrong_is_raised_where_the_unit_is_asked_for(n, bad, error):
    def make(unit, buffers):
        if unit == bad:
            raise error
        return unit

    seen = []
    with pytest.raises(type(error)) as caught:
        for unit in prefetched(UNITS, make, held(n), slow()):
            seen.append(unit)
    assert caught.value is error
    assert seen == UNITS[:bad]
    assert threads() == []


@pytest.mark.parametrize("how", ["closed", "left", "failed"])
def test_a_pass_that_is_given_up_ends_its_thread(how):
    units = prefetched(UNITS, lambda unit, _: unit, held(2), slow())
    assert next(units) == 0 and len(threads()) == 1
    if how == "closed":
        units.close()
    elif how == "left":
        del units
    else:
        with pytest.raises(ZeroDivisionError):
            units.throw(ZeroDivisionError())
    assert threads() == []


def test_seconds_are_counted(monkeypatch):
    clock = count()  # every look at the clock is a second later
    monkeypatch.setattr("hpcml.io.read.prefetch.time.perf_counter", lambda: float(next(clock)))
    times = ReadingTimes()
    list(prefetched(UNITS, lambda unit, _: unit, held(1), times))
    assert (times.reading, times.waiting, times.computing) == (7.0, 7.0, 7.0)
