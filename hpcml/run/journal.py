"""A line an iteration in metrics.jsonl, and what a user watches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from hpcml.algorithms.progress import Progress
from hpcml.io.files import output_error, write_bytes

__all__ = ["Journal"]

_FLUSH_SECONDS = 5.0


class Journal:
    """Buffered lines of one process; all Local.

    Parameters
    ----------
    path : Path
        metrics.jsonl.
    show : callable
        Takes a line for the user; called at most every `every` seconds.
    """

    def __init__(self, path: Path, show: Callable[[str], None], every: float = 1.0) -> None:
        self._path = path
        self._show = show
        self._every = every
        self._lines: list[str] = []
        self._begin = self._flushed = time.monotonic()
        self._shown = -every

    def cut(self, n_iter: int) -> None:
        """Drop the lines of iterations from `n_iter` on: a resumed run writes them again.

        Raises
        ------
        OutputError
            For want of space or permission.
        """
        if self._path.exists():
            lines = self._path.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["iter"] < n_iter]
            write_bytes(self._path, "".join(f"{line}\n" for line in kept).encode())

    def note(self, progress: Progress) -> None:
        """Keep a line for an iteration, and show it now and then."""
        now = time.monotonic()
        line = {
            "iter": progress.loop.n_iter,
            **progress.figures,
            "seconds": round(now - self._begin, 6),
        }
        self._lines.append(json.dumps(line))
        if now - self._shown >= self._every:
            self._shown = now
            self._show(f"iteration {line['iter']:>5}   {progress.sentence}   {line['seconds']:.1f} s")
        if now - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Append the lines kept so far.

        Raises
        ------
        OutputError
            For want of space or permission.
        """
        try:
            with self._path.open("a") as file:
                file.write("".join(f"{line}\n" for line in self._lines))
        except OSError as error:
            raise output_error(self._path, error) from error
        self._lines.clear()
        self._flushed = time.monotonic()
