"""Names the ranks that a collective waits for, and ends a job that waits for ever.

A rank that has waited for half of `name_after` says so in a file of its own in a shared
directory; ranks at work see that and answer in theirs. While all goes well nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hpcml.collectives.communicator import Activity, Communicator

__all__ = ["Watchdog", "watch"]


@runtime_checkable
class _Watched(Protocol):
    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def activity(self) -> Activity | None: ...


class Watchdog:
    """Watch one rank's collectives from a daemon thread. Local.

    Parameters
    ----------
    comm : MPICommunicator
        Or another one with an `activity`.
    directory : Path
        Seen by all ranks; files appear in it only while a rank waits for long.
    name_after, end_after : float
        Seconds of waiting after which the missing ranks are named, and after which the job ends
        (exit 1) unless the missing ranks say that they work.
    say : callable
        Takes the sentence that names the missing ranks.
    end : callable
        Takes the last sentence and ends the job.
    """

    def __init__(
        self,
        comm: _Watched,
        directory: Path,
        name_after: float,
        end_after: float,
        say: Callable[[str], None],
        end: Callable[[str], None],
    ) -> None:
        self._end = end
        self._comm = comm
        self._directory = directory
        self._name_after = name_after
        self._end_after = end_after
        self._say = say
        self._named = 0
        self._heard: dict[int, tuple[str, float]] = {}
        self._main = threading.main_thread().ident or 0
        threading.Thread(target=self._watch, name="hpcml-watchdog", daemon=True).start()

    def _watch(self) -> None:
        tick = min(5.0, self._name_after / 4)
        while True:
            time.sleep(tick)
            activity = self._comm.activity
            if activity and time.monotonic() - activity.since > self._name_after / 2:
                self._wait(activity, time.monotonic() - activity.since, 4 * tick)
            elif self._directory.is_dir():
                self._write({"state": "works"})

    def _write(self, message: dict[str, Any]) -> None:
        message |= {"site": self._call_site(), "beat": time.monotonic()}
        aside = self._directory / f".{self._comm.rank}"
        # A full disk or a directory that is gone must not end a job that works.
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(message))
            os.replace(aside, self._directory / f"rank-{self._comm.rank}")

    def _call_site(self) -> str:
        """Return file:line of the main thread, outside of this package's collectives."""
        frame = sys._current_frames().get(self._main)
        while frame and "/collectives/" in frame.f_code.co_filename:
            frame = frame.f_back
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"

    def _wait(self, activity: Activity, waited: float, silence: float) -> None:
        self._write({"state": "waits", "sequence": activity.sequence, "verb": activity.verb})
        words = self._others(silence)
        absent = {rank: said for rank, said in words.items() if not _is_there(said, activity)}
        if self._comm.rank != min(set(range(self._comm.size)) - set(absent)):
            return
        sentence = self._sentence(activity, waited, absent)
        if waited > self._name_after and self._named != activity.sequence:
            self._named = activity.sequence
            self._say(sentence)
        works = bool(absent) and all(said.get("state") == "works" for said in absent.values())
        if waited > self._end_after and not works and self._comm.activity == activity:
            self._end(f"{sentence}; the job ends")

    def _others(self, silence: float) -> dict[int, dict[str, Any]]:
        """Return each other rank's last words, none where it has been silent for `silence` seconds."""
        now = time.monotonic()
        words = {}
        for rank in set(range(self._comm.size)) - {self._comm.rank}:
            text = self._read(rank)
            if text != self._heard.get(rank, ("", 0.0))[0]:
                self._heard[rank] = (text, now)
            fresh = now - self._heard.get(rank, ("", -silence))[1] < silence
            words[rank] = json.loads(text) if text and fresh else {}
        return words

    def _read(self, rank: int) -> str:
        try:
            return (self._directory / f"rank-{rank}").read_text()
        except OSError:
            return ""

    def _sentence(self, activity: Activity, waited: float, absent: dict[int, dict[str, Any]]) -> str:
        names = [f"rank {rank} ({_doing(said)})" for rank, said in sorted(absent.items())]
        return (
            f"waiting {waited:.0f} s in {activity.verb} #{activity.sequence} at {self._call_site()}; "
            f"not there: {', '.join(names) or 'no rank'}"
        )


def _is_there(said: dict[str, Any], activity: Activity) -> bool:
    return said.get("sequence") == activity.sequence and said.get("verb") == activity.verb


def _doing(said: dict[str, Any]) -> str:
    if not said:
        return "silent"
    what = "at work" if said["state"] == "works" else f"in {said['verb']} #{said['sequence']}"
    return f"{what} at {said['site']}"


def watch(
    comm: Communicator | _Watched,
    directory: Path,
    name_after: float,
    end_after: float,
    say: Callable[[str], None],
    end: Callable[[str], None],
) -> None:
    """Start a watchdog where ranks can wait for each other: over MPI, with more than one rank. Local."""
    if comm.size > 1 and isinstance(comm, _Watched):
        Watchdog(comm, directory, name_after, end_after, say, end)
