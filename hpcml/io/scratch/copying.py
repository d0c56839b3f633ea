"""Bring whole files to the scratch of each node."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, OutputError
from hpcml.io.read.handle import FileIdentity, Handle, Traffic, identity_of
from hpcml.io.scratch.directory import Scratch, agreed_reason, staging_sentence
from hpcml.io.scratch.folder import Folder, sync, write_all
from hpcml.io.scratch.staging import prune, without_room

__all__ = ["stage_files"]

_READ_BYTES = 8 << 20
_NAME = "copy"
_JOURNAL = ".journal"


def stage_files(
    comm: Communicator, scratch: Scratch, paths: Sequence[Path], say: Callable[[str], None]
) -> list[Path] | None:
    """Copy whole files to every node's scratch and return where the copies are.

    Collective, eight small messages at most. The ranks of a node share the files among them. Copies that a
    dead attempt left are used again where source and copy are unchanged. Open the copies before a rank may
    leave the scratch: the first one of a node removes them.

    Parameters
    ----------
    comm : Communicator
    scratch : Scratch
    paths : list of Path
        The same on every rank.
    say : callable
        Takes a sentence for the user, on the first rank.

    Returns
    -------
    list of Path or None
        None on every rank if a node's scratch was too small; nothing is left there.

    Raises
    ------
    DataError
        A file cannot be read, or changed meanwhile.
    OutputError
        Scratch cannot be written, or does not give back what was written.
    """
    names = [_safe(i, path) for i, path in enumerate(paths)]
    node, folder = scratch.node, scratch.folder
    mine = range(node.rank, len(paths), node.size)
    wanted = {one for i in mine for one in (names[i], names[i] + _JOURNAL)}
    prune(scratch, _NAME, wanted)

    def copy() -> None:
        for i in mine:
            _bring(folder, paths[i], names[i])

    reason = None
    with agreed(comm):
        _, reason = without_room(copy)
    reason = agreed_reason(comm, reason)
    if reason is not None:
        for name in wanted:
            folder.remove(name)
    if comm.rank == 0:
        say(staging_sentence(scratch, reason))
    return None if reason is not None else [scratch.path / name for name in names]


def _safe(i: int, path: Path) -> str:
    """Return a plain name for the i-th file's copy, with the file's own at its end."""
    return f"{_NAME}-{i:05d}-{re.sub(r'[^A-Za-z0-9._-]', '_', path.name)[-128:]}"


def _bring(folder: Folder, source: Path, name: str) -> None:
    """Copy a file, unless it is there; compare the copy with what was read, twice at most."""
    with closing(_opened(source)) as handle:
        if _is_there(folder, name, handle.identity):
            return
        digest = _copy(folder, handle, name)
    if _digest_of(folder, name) != digest:
        raise OutputError(
            f"{folder.path / name} does not give back what was written: the device is faulty; "
            "name another one as scratch.path"
        )
    folder.write(name + _JOURNAL, json.dumps([*handle.identity, digest]).encode())


def _opened(source: Path) -> Handle:
    try:
        return Handle(source, identity_of(os.stat(source)), Traffic())
    except OSError as error:
        raise DataError(f"{source}: cannot be opened ({error.strerror})") from None


def _is_there(folder: Folder, name: str, identity: FileIdentity) -> bool:
    """Tell whether a copy is complete, of this very source, and has the bytes that were written."""
    try:
        *before, digest = json.loads(folder.read(name + _JOURNAL))
        return before == [*identity] and bool(_digest_of(folder, name) == digest)
    except (OutputError, ValueError):
        return False


def _copy(folder: Folder, handle: Handle, name: str) -> str:
    """Copy a file that is open and return the XXH3 (128 bit) of what was read."""
    from xxhash import xxh3_128

    folder.remove(name + _JOURNAL)
    folder.remove(name)
    digest = xxh3_128()
    with _closing(folder.create(name)) as copy:
        buffer = np.empty(_READ_BYTES, np.uint8)
        for offset in range(0, handle.identity.size, _READ_BYTES):
            part = buffer[: handle.identity.size - offset]
            handle.read_into(part, offset)
            digest.update(part.data)
            write_all(copy, part.data, offset, folder.path / name)
        handle.check()
        sync(copy, folder.path / name)
    return digest.hexdigest()


def _digest_of(folder: Folder, name: str) -> str:
    from xxhash import xxh3_128

    digest = xxh3_128()
    with os.fdopen(folder.open(name), "rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def _closing(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)
