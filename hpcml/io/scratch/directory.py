"""A private directory on each node's own storage, for the rows that its ranks need."""

from __future__ import annotations

import atexit
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.errors import HpcmlError, OutputError, SpecError
from hpcml.io.read.memory import available_bytes
from hpcml.io.scratch.folder import Folder, NoRoomError, make_folder, open_root
from hpcml.io.scratch.sweep import OWNER, Owner, dead_folders, prefix, this_process

__all__ = ["VARIABLES", "Purpose", "Scratch", "Wishes", "agreed_reason", "open_scratch", "staging_sentence"]

VARIABLES = (
    "HPCML_SCRATCH",
    "SLURM_TMPDIR",
    "LOCAL_SCRATCH",
    "LOCALWORKDIR",
    "PBS_JOBFS",
    "VSC_SCRATCH_NODE",
    "SNIC_TMP",
    "TMPDIR",
)
"""Where sites say that a node's own storage is, the first one first. SCRATCH and JOBSCRATCH are shared."""

_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
_WARNING = "warning: rows are not staged and are read from their source at each pass: {}"
_KEEPS = ("never", "on_failure", "always")


@dataclass(frozen=True)
class Wishes:
    """What the user asks of scratch.

    Parameters
    ----------
    path : Path or None
        The root; None takes the first usable one of VARIABLES, else /tmp.
    stage : {"shard", "copy"}
    keep : {"never", "on_failure", "always"}
        Whether the directory stays at the end.
    limit : int or None
        Most bytes on a node.
    """

    path: Path | None = None
    stage: str = "shard"
    keep: str = "never"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.keep not in _KEEPS or self.stage not in ("shard", "copy"):
            raise SpecError(f"scratch: keep {self.keep!r} with stage {self.stage!r} is not offered")


@dataclass(frozen=True)
class Purpose:
    """What a scratch directory is for.

    Parameters
    ----------
    data : str
        What tells these rows from others: a directory that a dead attempt left for the same is taken over.
    needed_bytes : int
        With stage "shard", for the rows of this rank; with "copy", for the files, told alike by all ranks.
    job : str
        The scheduler's name of the job.
    attempt : int
    """

    data: str
    needed_bytes: int
    job: str = "local"
    attempt: int = 1


class Scratch:
    """The private directory of this rank's node; a context manager. All Local.

    Attributes
    ----------
    folder : Folder
    node : Communicator
        Of the ranks that share it.
    """

    def __init__(self, folder: Folder, node: Communicator, keep: str) -> None:
        self.folder = folder
        self.node = node
        self.keep = keep
        self._pid = os.getpid()
        self._is_open = True
        atexit.register(self.close)

    @property
    def path(self) -> Path:
        """Where the directory is."""
        return self.folder.path

    def close(self, *, failed: bool = False) -> None:
        """Leave; the node's first rank removes the directory, unless it is to be kept.

        Files that ranks have open or mapped stay readable to them.
        """
        atexit.unregister(self.close)
        if not self._is_open or os.getpid() != self._pid:
            return
        self._is_open = False
        kept = self.keep == "always" or (failed and self.keep == "on_failure")
        if self.node.rank == 0 and not kept:
            self.folder.destroy()
        self.folder.close()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)


def agreed_reason(comm: Communicator, reason: str | None) -> str | None:
    """Return the reason of the first rank that has one, or None. Collective, one to three small messages."""
    (first,) = comm.allreduce(np.array([comm.size if reason is None else comm.rank]), op="min")
    return None if first[0] == comm.size else comm.bcast(reason, root=int(first[0]))


def staging_sentence(scratch: Scratch, reason: str | None) -> str:
    """Return what the user reads after staging. Local."""
    return f"rows are staged in {scratch.path}" if reason is None else _WARNING.format(reason)


def open_scratch(
    comm: Communicator, wishes: Wishes, purpose: Purpose, say: Callable[[str], None]
) -> Scratch | None:
    """Make a private directory on every node, or take over what a dead attempt at the same rows left there.

    Collective, ten small messages at most. The first rank of a node makes it and removes what dead processes
    of this user left.

    Parameters
    ----------
    comm : Communicator
    wishes : Wishes
    purpose : Purpose
    say : callable
        Takes a sentence for the user, on the first rank.

    Returns
    -------
    Scratch or None
        None on every rank where some node has no room, or no usable root: read the source instead.

    Raises
    ------
    OutputError
        `wishes.path` cannot be used on some node.
    """
    node = comm.node()
    combine = "sum" if wishes.stage == "shard" else "max"
    needed = int(node.allreduce(np.array([purpose.needed_bytes]), op=combine)[0][0])  # type: ignore[arg-type]
    folder: Folder | None = None
    reason: str | None = None
    try:
        with agreed(comm):
            if node.rank == 0:
                folder, reason = _leading(wishes, purpose, needed)
    except HpcmlError:  # another node's
        if folder is not None:
            _give_up(folder, leads=True)
        raise
    place = node.bcast([str(folder.path), folder.identity] if folder else None)
    if node.rank > 0 and place is not None:
        folder, reason = _following(Path(place[0]), place[1])
    why = agreed_reason(comm, reason)
    if why is None and folder is not None:
        return Scratch(folder, node, wishes.keep)
    if folder is not None:
        _give_up(folder, leads=node.rank == 0)
    if comm.rank == 0:
        say(_WARNING.format(why))
    return None


def _give_up(folder: Folder, *, leads: bool) -> None:
    if leads:
        folder.destroy()
    folder.close()


def _leading(wishes: Wishes, purpose: Purpose, needed: int) -> tuple[Folder | None, str | None]:
    """Return the node's directory, or why there is none.

    Raises
    ------
    OutputError
        The root that was asked for cannot be used.
    """
    try:
        root, path = _root(wishes.path, os.environ)
    except OutputError as error:
        if wishes.path is not None:
            raise
        return None, str(error)
    try:
        return _made(root, path, wishes, purpose, needed), None
    except NoRoomError as error:
        return None, str(error)
    except OutputError as error:
        if wishes.path is not None:
            raise
        return None, str(error)
    finally:
        os.close(root)


def _root(wanted: Path | None, environ: Mapping[str, str]) -> tuple[int, Path]:
    """Return handle and path of the root: what was asked for, else the first that can be used."""
    if wanted is not None:
        return open_root(wanted.absolute()), wanted.absolute()
    for name in VARIABLES:
        if environ.get(name):
            with suppress(OutputError):
                path = Path(environ[name]).absolute()
                return open_root(path), path
    return open_root(Path("/tmp")), Path("/tmp")


def _made(root: int, path: Path, wishes: Wishes, purpose: Purpose, needed: int) -> Folder:
    """Return a directory with room for `needed` bytes; what dead processes left is taken over or removed."""
    if wishes.limit is not None and needed > wishes.limit:
        raise NoRoomError(f"they take {needed:,} bytes on a node and scratch.limit is {wishes.limit:,}")
    owner = this_process(purpose.job, purpose.attempt, purpose.data, wishes.keep)
    folder = _taken_over(root, path, owner)
    try:
        room = _room(root) + (folder.size() if folder else 0)
        if needed > room:
            raise NoRoomError(f"they take {needed:,} bytes and {path} has {room:,} left")
        name = _name(owner)
        if folder is None:
            folder = make_folder(root, path / name)
            folder.write(OWNER, owner.render())
        else:
            folder.write(OWNER, owner.render())
            folder.rename(name)
            folder.lock(alone=False)
    except (NoRoomError, OutputError):
        if folder is not None:
            _give_up(folder, leads=True)
        raise
    return folder


def _name(owner: Owner) -> str:
    """Return a name that nobody can foretell."""
    job = re.sub(r"[^A-Za-z0-9._]", "_", owner.job)[:64] or "local"
    return f"{prefix()}{job}-{owner.attempt}-{secrets.token_hex(8)}"


def _taken_over(root: int, path: Path, owner: Owner) -> Folder | None:
    """Return the directory that a dead attempt at the same rows left, if any; remove other dead ones."""
    taken: Folder | None = None
    for folder, before in dead_folders(root, path):
        keeps = before.keep != "never"
        if taken is None and before.data == owner.data and (owner.keep != "never" or not keeps):
            taken = folder
            continue
        if not keeps:
            folder.destroy()
        folder.close()
    return taken


def _room(root: int) -> int:
    """Return the free bytes of a file system; one that lives in memory has what the node can give."""
    status = os.fstatvfs(root)
    free = status.f_bavail * status.f_frsize
    return min(free, available_bytes()) if _is_in_memory(root) else free


def _is_in_memory(root: int) -> bool:
    device = os.fstat(root).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return False
    kinds = {words[words.index("-") + 1] for words in mounts if words[2] == name}
    return bool(kinds & set(_MEMORY_FILE_SYSTEMS))


def _following(path: Path, identity: list[int]) -> tuple[Folder | None, str | None]:
    """Open the directory that the node's first rank made; it must be that one."""
    try:
        root = open_root(path.parent)
    except OutputError as error:
        return None, str(error)
    try:
        folder = Folder(root, path)
    except OutputError as error:
        return None, str(error)
    finally:
        os.close(root)
    if folder.identity != identity:
        folder.close()
        return None, f"{path} is not the directory that the first rank of its node made"
    folder.lock(alone=False)
    return folder, None
