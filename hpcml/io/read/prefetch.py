"""Read units made by one thread while the caller computes on the last one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from hpcml.io.read.rows import Buffers

__all__ = ["ReadingTimes", "prefetched"]

Unit = TypeVar("Unit")
Made = TypeVar("Made")


# A thread costs more than it hides while the computation is shorter than this share of reading.
_WORTH_A_THREAD = 0.1


@dataclass
class ReadingTimes:
    """Seconds of this process, over all passes.

    Attributes
    ----------
    reading : float
        Spent in making read units.
    waiting : float
        In which the computation had to wait for one.
    computing : float
        Between getting a unit and asking for the next one.
    """

    reading: float = 0.0
    waiting: float = 0.0
    computing: float = 0.0


def prefetched(
    units: Sequence[Unit],
    make: Callable[[Unit, Buffers], Made],
    held: Sequence[Buffers],
    times: ReadingTimes,
) -> Iterator[Made]:
    """Yield ``make(unit, buffers)`` for each unit in order, the next ones made by a thread meanwhile. Local.

    A unit is good until the next one is asked for. What `make` raises is raised here. The thread begins once
    the computation proves to be more than a tenth of reading.

    Parameters
    ----------
    units : sequence
    make : callable
        Called in one thread at a time.
    held : sequence of Buffers
        One for each unit that may be there at once, the caller's own included: with one there is no thread.
    times : ReadingTimes
        Added to.
    """
    for i, unit in enumerate(units):
        pays = len(held) > 1 and times.computing > _WORTH_A_THREAD * times.reading
        if pays and i + 1 < len(units):
            yield from _threaded(units[i:], make, held, times)
            return
        begin = time.perf_counter()
        made = make(unit, held[0])
        there = time.perf_counter()
        times.reading += there - begin
        times.waiting += there - begin
        yield made
        times.computing += time.perf_counter() - there


def _threaded(
    units: Sequence[Unit], make: Callable[[Unit, Buffers], Made], held: Sequence[Buffers], times: ReadingTimes
) -> Iterator[Made]:
    free: SimpleQueue[Buffers | None] = SimpleQueue()
    ready: SimpleQueue[tuple[Made | BaseException, Buffers]] = SimpleQueue()
    for buffers in held:
        free.put(buffers)
    work = (units, make, free, ready, times)
    reader = threading.Thread(target=_work, args=work, name="hpcml-read", daemon=True)
    reader.start()
    try:
        for _ in units:
            begin = time.perf_counter()
            made, buffers = ready.get()
            there = time.perf_counter()
            times.waiting += there - begin
            if isinstance(made, BaseException):
                raise made
            yield made
            times.computing += time.perf_counter() - there
            free.put(buffers)
    finally:
        free.put(None)
        reader.join()


def _work(
    units: Sequence[Unit],
    make: Callable[[Unit, Buffers], Made],
    free: SimpleQueue[Buffers | None],
    ready: SimpleQueue[tuple[Made | BaseException, Buffers]],
    times: ReadingTimes,
) -> None:
    for unit in units:
        buffers = free.get()
        if buffers is None:
            return
        begin = time.perf_counter()
        try:
            made = make(unit, buffers)
            times.reading += time.perf_counter() - begin
            ready.put((made, buffers))
        except BaseException as error:  # raised again where the unit is asked for
            ready.put((error, buffers))
            return
