"""Names the ranks that a collective waits for, and ends a job that waits for ever.

A rank that has waited for half of `name_after` says so in a file of its own in a shared
directory; ranks at work see that and answer in theirs. While all goes well nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hpcml.collectives.communicator import Activity, Communicator

__all__ = ["Watchdog", "watch"]


class _Watched(Protocol):
    rank: int
    size: int
    activity: Activity | None

    def abort(self, code: int) -> None: ...


class Watchdog:
    """Watch one rank's collectives from a daemon thread. Local.

    Parameters
    ----------
    comm : communicator with an `activity`
    directory : Path
        Seen by all ranks; files appear in it only while a rank waits for long.
    name_after, end_after : float
        Seconds of waiting after which the missing ranks are named, and after which the job ends
        (exit 1) unless the missing ranks say that they work.
    say : callable
        Takes the sentences.
    """

    def __init__(
        self, comm: _Watched, directory: Path, name_after: float, end_after: float, say: Callable[[str], None]
    ) -> None:
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
        absent = {rank: text for rank, text in self._others(silence).items() if not self._is_there(text, activity)}
        if self._comm.rank != min(set(range(self._comm.size)) - set(absent)):
            return
        works = bool(absent) and all(json.loads(text).get("state") == "works" for text in absent.values() if text)
        works = works and all(absent.values())
        sentence = self._sentence(activity, waited, absent)
        if waited > self._name_after and self._named != activity.sequence:
            self._named = activity.sequence
            self._say(sentence)
        if waited > self._end_after and not works and self._comm.activity == activity:
            self._say(f"{sentence}; the job ends after {waited:.0f} s of waiting")
            self._comm.abort(1)

    @staticmethod
    def _is_there(text: str, activity: Activity) -> bool:
        return bool(text) and json.loads(text).get("sequence") == activity.sequence

    def _others(self, silence: float) -> dict[int, str]:
        """Return each other rank's last words, empty where it has been silent for `silence` seconds."""
        now = time.monotonic()
        words = {}
        for rank in set(range(self._comm.size)) - {self._comm.rank}:
            path = self._directory / f"rank-{rank}"
            text = path.read_text() if path.exists() else ""
            if text != self._heard.get(rank, ("", 0.0))[0]:
                self._heard[rank] = (text, now)
            words[rank] = text if now - self._heard.get(rank, ("", -silence))[1] < silence else ""
        return words

    def _sentence(self, activity: Activity, waited: float, absent: dict[int, str]) -> str:
        parts = []
        for rank, text in sorted(absent.items()):
            last = json.loads(text) if text else {}
            doing = {"works": "at work", "waits": f"in {last.get('verb')} #{last.get('sequence')}"}.get(
                last.get("state", ""), "silent"
            )
            parts.append(f"rank {rank} ({doing}{' at ' + last['site'] if last else ''})")
        missing = ", ".join(parts) or "no rank"
        return (
            f"waiting {waited:.0f} s in {activity.verb} #{activity.sequence} at {self._call_site()}; "
            f"not there: {missing}"
        )


def watch(
    comm: Communicator, directory: Path, name_after: float, end_after: float, say: Callable[[str], None]
) -> None:
    """Start a watchdog where ranks can wait for each other: over MPI, with more than one rank. Local."""
    if comm.size > 1 and hasattr(comm, "activity"):
        Watchdog(comm, directory, name_after, end_after, say)
