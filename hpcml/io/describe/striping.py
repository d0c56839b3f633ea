"""How a file is striped over the servers of a Lustre file system."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hpcml.process import capture

__all__ = ["Component", "components", "is_on_lustre", "read_striping"]

_MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
_FIELD = re.compile(
    r"^\s*(lmm_stripe_count|lmm_stripe_size|lcme_extent\.e_start|lcme_extent\.e_end):\s*(\S+)"
)


class Component(NamedTuple):
    """A range of bytes of a file and how it is striped; stop None: to the end."""

    start: int
    stop: int | None
    stripe_count: int
    stripe_bytes: int


def is_on_lustre(path: Path, mounts: str) -> bool:
    """Return whether the file system of an absolute path is Lustre, by the text of /proc/mounts. Local."""
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        where = _OCTAL.sub(lambda match: chr(int(match[1], 8)), words[1])
        if len(where) >= len(best) and path.is_relative_to(where):
            best, kind = where, words[2]
    return kind == "lustre"


def components(text: str) -> list[Component]:
    """Return what ``lfs getstripe`` printed of one file, plain or of several components. Local."""
    found: list[Component] = []
    start, stop, count = 0, None, 0
    for name, value in _fields(text):
        if name.endswith("e_start"):
            start = int(value)
        elif name.endswith("e_end"):
            stop = None if value == "EOF" else int(value)
        elif name == "lmm_stripe_count":
            count = int(value)
        else:
            found.append(Component(start, stop, count, int(value)))
    return found


def _fields(text: str) -> Iterable[tuple[str, str]]:
    return ((match[1], match[2]) for line in text.splitlines() if (match := _FIELD.match(line)))


def read_striping(path: Path) -> list[Component]:
    """Return how a file is striped; nothing where it is not on Lustre or ``lfs`` does not tell. Local."""
    try:
        where = Path(os.path.realpath(path))
        if not is_on_lustre(where, _MOUNTS.read_text()):
            return []
        return components(capture(["lfs", "getstripe", str(where)]) or "")
    except (OSError, ValueError):
        return []
