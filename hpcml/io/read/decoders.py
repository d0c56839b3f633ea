"""Threads that share work with the one that reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Decoders"]


class Decoders:
    """Runs tasks on this thread and on `threads` - 1 others. All Local.

    The calling thread works too: it would otherwise wait, and be woken for every read.

    Parameters
    ----------
    threads : int
        At least two.
    """

    def __init__(self, threads: int) -> None:
        self._others = threads - 1
        self._pool = ThreadPoolExecutor(self._others, "hpcml-decode")

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks; what one of them raises is raised here when none runs any more."""
        left = deque(tasks)

        def work() -> None:
            while left:
                try:
                    task = left.popleft()
                except IndexError:  # another thread was faster
                    return
                task()

        others = [self._pool.submit(work) for _ in range(min(self._others, len(tasks) - 1))]
        try:
            work()
        finally:
            left.clear()
            errors = [one.exception() for one in others]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
