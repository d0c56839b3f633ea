"""Kinds with a unit: durations, sizes, cadences, and the keys that take a number or a word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcml.spec.kinds import (
    Kind,
    Mismatch,
    choice,
    integer,
    list_of,
    number,
    number_of,
    optional,
    path,
    refuse,
    scalar,
    text,
)
from hpcml.spec.tree import Listing, Scalar, Tree, is_null

__all__ = [
    "Cadence",
    "auto_or",
    "cadence",
    "duration",
    "file_or_word",
    "files",
    "limit",
    "one_or_list",
    "share_or_path",
    "size",
    "sources",
]

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_WITH_UNITS = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[dhms])+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms])")
_DAYS = re.compile(r"([0-9]+)-([0-9]{1,2})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-9]{1,2})")
_DURATION = "a duration such as 90m, 2h, 01:30:00, 1-12:00:00 or a number of seconds"
_LONGEST = 10 * 366 * 86400.0

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTkmgt])(?:iB)?")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}
_BYTES = "a size such as 512M, 4G, 1.5GiB or a number of bytes"
_GLOB = re.compile(r"[*?\[]")


def duration() -> Kind:
    """Return the kind of durations above 0, in seconds (to the millisecond)."""

    def read(node: Tree) -> float:
        seconds = round(_seconds(node), 3)
        if not 0.0 < seconds <= _LONGEST:
            refuse(node, f"{_DURATION}, above 0 and at most ten years")
        return seconds

    return Kind("duration", read, _spelled)


def _spelled(seconds: float) -> str:
    """Return a duration as text that reads back as the same number."""
    return f"{int(seconds) if seconds == int(seconds) else seconds}s"


def _seconds(node: Tree) -> float:
    """Return the seconds of a duration: plain, with units, or as Slurm writes it."""
    word = scalar(node, _DURATION)
    if len(word) > 64:
        refuse(node, _DURATION)
    if _WITH_UNITS.fullmatch(word):
        return sum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(word))
    if match := _DAYS.fullmatch(word):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return _clock(node, hours, minutes, seconds, hours < 24 and minutes < 60) + days * _SECONDS["d"]
    if match := _CLOCK.fullmatch(word):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return _clock(node, hours, minutes, seconds, minutes < 60 or match[1] is None)
    return float(number_of(node, _DURATION))


def _clock(node: Tree, hours: int, minutes: int, seconds: int, fits: bool) -> float:
    """Return the seconds of a time of the form HH:MM:SS whose lower parts stay below 60."""
    if not fits or seconds >= 60:
        refuse(node, f"{_DURATION}, with hours below 24 after days, and minutes and seconds below 60")
    return hours * _SECONDS["h"] + minutes * _SECONDS["m"] + seconds


def size(least: int = 1) -> Kind:
    """Return the kind of sizes in bytes; K, M, G and T are powers of 1024."""

    def read(node: Tree) -> int:
        value = _bytes(node)
        if not least <= value < 2**60 or value != int(value):
            refuse(node, f"{_BYTES}, of at least {_named(least)}")
        return int(value)

    return Kind("size", read)


def _named(count: int) -> str:
    """Return a size the way the messages write it."""
    return f"{count >> 20}M" if count and count % (1 << 20) == 0 else f"{count} byte{'s' * (count != 1)}"


def _bytes(node: Tree) -> float:
    """Return the bytes that a size spells."""
    word = scalar(node, _BYTES)
    match = _SIZE.fullmatch(word) if len(word) <= 64 else None
    if match is None:
        return float(number_of(node, _BYTES))
    return float(int(float(match[1]) * 1024 ** _POWERS[match[2].upper()]))


def limit() -> Kind:
    """Return the kind of memory limits: a fraction in (0, 1] as float, or a size in bytes as int."""

    def read(node: Tree) -> float | int:
        value = _bytes(node)
        if not 0.0 < value < 2**60 or (value > 1.0 and value != int(value)):
            refuse(node, f"a fraction in (0, 1] or {_BYTES}")
        return value if value <= 1.0 else int(value)

    return Kind("size or fraction in (0, 1]", read)


@dataclass(frozen=True)
class Cadence:
    """How often something happens: every so many iterations or every so many seconds; one of both is set."""

    iterations: int | None = None
    seconds: float | None = None


def cadence(*, none: bool = False) -> Kind:
    """Return the kind of cadences: an integer counts iterations, anything else is a duration."""
    wanted = f"a number of iterations, a duration such as 10m{', or none' if none else ''}"
    whole, timed = integer("[1, inf)"), duration()

    def read(node: Tree) -> Cadence | None:
        if none and (is_null(node) or (isinstance(node, Scalar) and node.text == "none")):
            return None
        if re.fullmatch(r"[0-9_]+", scalar(node, wanted)):
            return Cadence(iterations=whole.read(node))
        if not re.search(r"[dhms:-]", scalar(node, wanted)):
            refuse(node, wanted)
        return Cadence(seconds=timed.read(node))

    def plain(value: Cadence | None) -> Any:
        if value is None:
            return "none"
        return value.iterations if value.seconds is None else timed.plain(value.seconds)

    return Kind("integer (iterations) or duration" + (", or none" if none else ""), read, plain)


def one_or_list(kind: Kind) -> Kind:
    """Return `kind`, or the kind of lists of it."""
    several = list_of(kind, least=1)

    def read(node: Tree) -> Any:
        return (several if isinstance(node, Listing) else kind).read(node)

    def plain(value: Any) -> Any:
        return (several if isinstance(value, tuple) else kind).plain(value)

    return Kind(f"{kind.text} or {several.text}", read, plain)


def auto_or(kind: Kind, *words: str) -> Kind:
    """Return `kind`, or the word auto (or one of the words given instead)."""
    words = words or ("auto",)
    listed = ", ".join(words)

    def read(node: Tree) -> Any:
        if isinstance(node, Scalar) and node.text in words:
            return node.text
        try:
            return kind.read(node)
        except Mismatch as error:
            raise Mismatch(f"{error.sentence}, or {listed}", error.where, error.below) from None

    return Kind(f"{listed} or {kind.text}", read)


def share_or_path() -> Kind:
    """Return the kind of `data.split.test`: a share in [0, 1), or the path of a separate file."""
    share, file = number("[0, 1)"), path()

    def read(node: Tree) -> float | Path:
        word = scalar(node, "a share in [0, 1) or a path")
        numeric = re.fullmatch(r"[-+]?\.?[0-9][-+.0-9eE_x]*|[-+.]*(?:nan|inf)", word, re.IGNORECASE)
        if numeric or (isinstance(node, Scalar) and node.tag in ("int", "float")):
            value: float = share.read(node)
            return value
        result: Path = file.read(node)
        return result

    return Kind("number in [0, 1), or path", read)


def file_or_word(*words: str) -> Kind:
    """Return the kind of words besides a path, which needs a slash so that a slip is not taken for a file."""
    file, word = path(), choice(*words)

    def read(node: Tree) -> str | Path:
        if isinstance(node, Scalar) and node.tag == "str" and "/" in node.text:
            result: Path = file.read(node)
            return result
        try:
            return str(word.read(node))
        except Mismatch as error:
            raise Mismatch(f"{error.sentence}, or a path with a / in it") from None

    return Kind(f"{', '.join(words)} or path", read)


def files() -> Kind:
    """Return the kind of `data.path`: files or patterns, one or a list, as a tuple of paths."""
    file = path()
    several = list_of(Kind("path or glob", file.read), least=1)

    def read(node: Tree) -> tuple[Path, ...]:
        return tuple(several.read(node)) if isinstance(node, Listing) else (file.read(node),)

    def plain(paths: tuple[Path, ...]) -> Any:
        return str(paths[0]) if len(paths) == 1 else [str(one) for one in paths]

    return Kind("path, glob or list of them", read, plain)


def sources() -> Kind:
    """Return the kind of `data.source`: files, patterns, or ``package:NAME/FILE``, as texts."""
    file, packaged = path(), text(r"package:[A-Za-z0-9._-]+/.+", name="package:NAME/FILE")

    def one(node: Tree) -> str:
        if isinstance(node, Scalar) and node.text.startswith("package:"):
            return str(packaged.read(node))
        return str(file.read(node))

    several = list_of(Kind("path, glob or package:NAME/FILE", one), least=1)

    def read(node: Tree) -> Any:
        return several.read(node) if isinstance(node, Listing) else (one(node),)

    kind = Kind("path, glob, list or package:NAME/FILE", read, several.plain)
    return optional(kind, absent=())
