"""Byte ranges of text files over ranks, moved to the starts of records.

In files without quotes a record is a line. CSV has quotes.

A range's border may lie inside a quoted field, which no rank can see from its own bytes. Every quote
character, a doubled one included (RFC 4180), toggles between inside and outside, so the parity of the
quotes before a range says where it starts. The bytes before a range's first record start then go to the
rank that has the record's beginning. Nothing of this parses CSV: it only finds where to cut.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError

__all__ = [
    "Segment",
    "Span",
    "deal_spans",
    "find_record",
    "move_borders",
    "read_range",
    "read_segments",
    "reading",
]

_PIECE_BYTES = 1 << 16
"""Compressed bytes taken at a time. A name so that tests can shrink it."""


@dataclass(frozen=True)
class Span:
    """Stored bytes ``start <= byte < stop`` of a file of `size` bytes."""

    file: int
    start: int
    stop: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A run of a file's text on one rank; `start`: it begins where the file does; `quotes` hide line ends."""

    file: int
    start: bool
    text: bytes
    quotes: bool = True

    @cached_property
    def has_quotes(self) -> bool:
        """Whether a quote occurs that can hide line ends."""
        return self.quotes and b'"' in self.text

    def quote_parity(self) -> int:
        """Return 1 where the number of quotes is odd. Local."""
        return self.text.count(b'"') % 2 if self.has_quotes else 0


def deal_spans(sizes: Sequence[int], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank` when all files, end to end, are cut into `size` equal parts. Local."""
    total = sum(sizes)
    first, last = total * rank // size, total * (rank + 1) // size
    spans, before = [], 0
    for file, n_bytes in enumerate(sizes):
        start, stop = max(first - before, 0), min(last - before, n_bytes)
        if start < stop:
            spans.append(Span(file, start, stop, n_bytes))
        before += n_bytes
    return spans


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a library raises about a broken file into a DataError that names it. Local."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (zlib.error, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged or not what its name says: {error}") from error


def read_segments(
    comm: Communicator, files: Sequence[Path], spans: Sequence[Span], formats: Sequence[str]
) -> list[Segment]:
    """Return this rank's whole records of the text files among `files`. Collective, seven messages.

    Raises
    ------
    DataError
        A file is damaged or cannot be read, or a quoted field has no end.
    """
    segments = []
    with agreed(comm):
        for span in spans:
            kind = formats[span.file]
            if kind in ("csv", "jsonl", "libsvm"):
                text = read_range(files[span.file], span)
                segments.append(Segment(span.file, span.start == 0, text, quotes=kind == "csv"))
    return move_borders(comm, segments, files)


def read_range(path: Path, span: Span) -> bytes:
    """Return the text that a span of a plain, .gz or .zip file holds. Local.

    A compressed file is decompressed by every rank up to the end of its span, of which it keeps the span:
    that costs a fraction of parsing, no message and no memory, where one reader would leave the others
    idle and then send them everything.

    Raises
    ------
    DataError
        The file is damaged or cannot be read.
    """
    with reading(path), open(path, "rb") as handle:
        if path.suffix.lower() not in (".gz", ".zip"):
            handle.seek(span.start)
            return handle.read(span.stop - span.start)
        pieces = _unzipped(path) if path.suffix.lower() == ".zip" else _gunzipped(handle)
        kept = []
        for position, text in pieces:
            # Who has the last byte reads to the end, where the check sum stands.
            if position >= span.stop and span.stop < span.size:
                break
            if span.start <= position:
                kept.append(text)
        return b"".join(kept)


def _gunzipped(handle: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield stored positions and the text of the bytes there; a .gz may have several members."""
    position, member = 0, zlib.decompressobj(31)
    while stored := handle.read(_PIECE_BYTES):
        text = []
        while stored:
            if member.eof:
                stored = stored.lstrip(b"\0")  # padding after the end is legal
                if not stored:
                    break
                member = zlib.decompressobj(31)
            text.append(member.decompress(stored))
            stored = member.unused_data
        yield position, b"".join(text)
        position += _PIECE_BYTES
    if not member.eof:
        raise EOFError("it ends too early")


def _unzipped(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield text with positions on the scale of stored bytes; the archive has one member."""
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"it has {len(members)} files, and must have one")
        n_stored, n_text, done = path.stat().st_size, max(members[0].file_size, 1), 0
        with archive.open(members[0]) as stream:
            while text := stream.read(16 * _PIECE_BYTES):
                # Text beyond the stated size is the library's to refuse; it must stay in the last span.
                yield min(n_stored * done // n_text, n_stored - 1), text
                done += len(text)


def move_borders(comm: Communicator, segments: list[Segment], names: Sequence[Path]) -> list[Segment]:
    """Return this rank's segments as whole records. Collective, six messages.

    A file with a quote inside an unquoted field has no sure borders: its bytes all go to the rank that
    has its first one, and the parser says what they mean. So the rows never depend on the number of ranks.

    Raises
    ------
    DataError
        A quoted field has no end.
    """
    facts = comm.allgather([[s.file, s.quote_parity(), s.text[-1] if s.text else -1] for s in segments])
    cuts = [_cut(segment, *_before(facts[: comm.rank], segment)) for segment in segments]
    found = comm.allgather([[s.file, s.start, *cut] for s, cut in zip(segments, cuts, strict=True)])
    sure = _sure_files(facts, found, names)
    buffers = [b""] * comm.size
    kept = list(segments)
    if segments and not segments[0].start:
        head, owner = _head(segments[0], cuts[0][1], sure, found, comm.rank)
        buffers[owner] = segments[0].text[:head]
        kept[0] = replace(segments[0], text=segments[0].text[head:])
    arrived = comm.alltoall([np.frombuffer(buffer, np.uint8) for buffer in buffers])
    if any(part.size for part in arrived):
        kept[-1] = replace(kept[-1], text=b"".join([kept[-1].text, *(part.tobytes() for part in arrived)]))
    return [segment for segment in kept if segment.text]


def _before(facts: list[list[list[int]]], segment: Segment) -> tuple[bool, int]:
    """Return whether a segment starts inside a quoted field, and the byte before it."""
    same = [fact for rank in facts for fact in rank if fact[0] == segment.file]
    last = [fact[2] for fact in same if fact[2] >= 0]
    return sum(fact[1] for fact in same) % 2 == 1, last[-1] if last else ord("\n")


def _cut(segment: Segment, quoted: bool, previous: int) -> list[Any]:
    """Return whether each opening quote starts a field, and where the first record starts (-1: nowhere)."""
    if not (quoted or segment.has_quotes):
        return [True, segment.text.find(b"\n") + 1 or -1]
    return [_opens_well(segment.text, quoted, previous), find_record(segment.text, quoted)]


def _opens_well(text: bytes, quoted: bool, previous: int) -> bool:
    """Return whether each quote that opens follows a delimiter, a line's end, or a quote that it doubles."""
    if b'"' not in text:
        return True
    values = np.frombuffer(text, np.uint8)
    opening = np.flatnonzero(values == ord('"'))[int(quoted) :: 2]
    ahead = np.where(opening > 0, values[opening - 1], previous)
    good = np.isin(ahead, list(b',\n\r"'))
    # A byte-order mark stands before the first field.
    return bool((good | ((opening == 3) & (text[:3] == b"\xef\xbb\xbf"))).all())


def find_record(text: bytes, quoted: bool) -> int:
    """Return the place after the first line's end outside quotes, or -1. Local.

    Parameters
    ----------
    text : bytes
    quoted : bool
        `text` begins inside a quoted field.
    """
    at = 0
    while True:
        quote = text.find(b'"', at)
        if not quoted:
            newline = text.find(b"\n", at, len(text) if quote < 0 else quote)
            if newline >= 0:
                return newline + 1
        if quote < 0:
            return -1
        at, quoted = quote + 1, not quoted


def _sure_files(facts: list[Any], found: list[Any], names: Sequence[Path]) -> set[int]:
    """Return the files whose quotes all open where fields begin; the same on every rank."""
    unsure = {cut[0] for rank in found for cut in rank if not cut[2]}
    odd: dict[int, int] = {}
    for file, parity, _ in (fact for rank in facts for fact in rank):
        odd[file] = odd.get(file, 0) ^ parity
    for file in sorted(odd):
        if odd[file] and file not in unsure:
            raise DataError(f"{names[file]}: a quoted field has no end")
    return set(odd) - unsure


def _head(segment: Segment, cut: int, sure: set[int], found: list[Any], rank: int) -> tuple[int, int]:
    """Return how many first bytes of a segment belong to a lower rank, and to which."""
    lower = [
        (r, start, at)
        for r, cuts in enumerate(found[:rank])
        for file, start, _, at in cuts
        if file == segment.file
    ]
    if segment.file not in sure:
        return len(segment.text), next(r for r, start, _ in lower if start)
    owner = next(r for r, start, at in reversed(lower) if start or at >= 0)
    return len(segment.text) if cut < 0 else cut, owner
