"""What a run is doing, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Phases"]


class Phases:
    """Seconds by phase on this process, and the phase it is in.

    Attributes
    ----------
    seconds : dict of float
    current : str
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current = "start"
        self._begin = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._begin

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the seconds of a piece of work to `name`."""
        before, self.current = self.current, name
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
        self.current = before
