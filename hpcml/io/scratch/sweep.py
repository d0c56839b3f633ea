"""Scratch directories of processes that are gone: known for certain, taken over or removed."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hpcml.errors import OutputError
from hpcml.io.scratch.folder import Folder, open_root

__all__ = ["OWNER", "Owner", "dead_folders", "prefix", "read_owner", "sweep", "this_process"]

OWNER = "owner.json"
_FORMAT = 1
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Owner:
    """Who made a scratch directory, for which rows, and whether it outlives its job.

    Parameters
    ----------
    uid, pid, start : int
        Of the process; `start` is its start time in clock ticks after boot.
    host, boot : str
        The node's name, and what its kernel calls this boot.
    job : str
    attempt : int
    data : str
        What tells the staged rows from others.
    keep : {"never", "on_failure", "always"}
    format : int
    """

    uid: int
    pid: int
    start: int
    host: str
    boot: str
    job: str
    attempt: int
    data: str
    keep: str
    format: int = _FORMAT

    def render(self) -> bytes:
        """Return the text of owner.json. Local."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    def is_gone(self) -> bool:
        """Tell whether the process has certainly ended. Local.

        Of another node nothing is known, nor where the kernel does not say.
        """
        if self.host != socket.gethostname() or not self.boot or not _boot():
            return False
        return self.boot != _boot() or _start_of(self.pid) != self.start


def this_process(job: str, attempt: int, data: str, keep: str) -> Owner:
    """Return this process as an owner. Local."""
    pid = os.getpid()
    return Owner(os.geteuid(), pid, _start_of(pid), socket.gethostname(), _boot(), job, attempt, data, keep)


def _boot() -> str:
    """Return what the kernel calls this boot, or nothing where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(pid: int) -> int:
    """Return when a process started, in clock ticks after boot, or -1 where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return -1
    state, *numbers = text.rpartition(")")[2].split()
    return -1 if state in "ZXx" else int(numbers[18])


def prefix() -> str:
    """Return how the names of this user's scratch directories begin. Local."""
    return f"hpcml-{os.geteuid()}-"


def read_owner(folder: Folder) -> Owner | None:
    """Return what owner.json says, or None if it is not wholly understood. Local."""
    try:
        tree = json.loads(folder.read(OWNER, _MOST_BYTES))
        owner = Owner(**tree)
    except (OutputError, OSError, ValueError, TypeError):
        return None
    kinds = {"int": int, "str": str}
    if any(type(getattr(owner, field.name)) is not kinds[str(field.type)] for field in fields(Owner)):
        return None
    return owner if owner.format == _FORMAT and owner.uid == os.geteuid() else None


def dead_folders(root: int, path: Path) -> Iterator[tuple[Folder, Owner]]:
    """Yield the private directories below a root whose owner is gone, locked; the taker closes them.

    Local. What is not known for certain is passed over: other users', other nodes', living ones, links, other
    file systems, directories that do not say whose they are.
    """
    own = re.compile(re.escape(prefix()) + r"[A-Za-z0-9._]+-\d+-[a-z0-9_]+")
    with suppress(OSError):
        for name in sorted(os.listdir(root)):
            found = _dead(root, path / name) if own.fullmatch(name) else None
            if found is not None:
                yield found


def _dead(root: int, path: Path) -> tuple[Folder, Owner] | None:
    try:
        folder = Folder(root, path)
    except OutputError:
        return None
    # The lock first: what owner.json says, and that the directory is still there, holds while it is held.
    owner = read_owner(folder) if folder.lock(alone=True) else None
    if owner is not None and owner.is_gone() and folder.is_named():
        return folder, owner
    folder.close()
    return None


def sweep(path: Path) -> list[Path]:
    """Remove what processes of this user that are gone left below a scratch root; return what was removed.

    Local. Directories that were to be kept stay.

    Raises
    ------
    OutputError
        The root cannot be used.
    """
    root = open_root(path)
    try:
        removed = []
        for folder, owner in dead_folders(root, path):
            if owner.keep == "never" and folder.destroy():
                removed.append(folder.path)
            folder.close()
        return removed
    finally:
        os.close(root)
