"""Text in libsvm format ("svmlight") as labels and CSR arrays, without a loop over tokens.

The bytes between separators are laid end to end as one Arrow string array, which Arrow casts to numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.io.tables.columns import UnusableValue, pyarrow

__all__ = ["SparseText", "joined", "parse_libsvm"]

_SPACE, _LINE, _COLON = 1, 2, 3
_KINDS = np.zeros(256, np.uint8)
_KINDS[list(b" \t\r\v\f")] = _SPACE
_KINDS[ord("\n")] = _LINE
_KINDS[ord(":")] = _COLON
_COMMENT = re.compile(rb"#[^\n]*")
_RUN_BYTES = 1 << 20
"""Text parsed at a time: what is made of it stays in the processor's cache."""


@dataclass(frozen=True)
class SparseText:
    """Rows of a text: labels, entries of each row, and the entries' column numbers as written and values."""

    labels: NDArray[np.float64]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]
    data: NDArray[np.float64]


def parse_libsvm(text: bytes) -> SparseText:
    """Return the rows of whole lines. Local.

    Lines without a label, blank ones and comments, are no rows.

    Raises
    ------
    UnusableValue
        With the row: what is no number, an index that does not ascend, or a query id.
    """
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    parts, rows, at = [], 0, 0
    while at < len(text):
        stop = text.rfind(b"\n", at, at + _RUN_BYTES) + 1
        stop = stop or text.find(b"\n", at + _RUN_BYTES) + 1 or len(text)
        try:
            parts.append(_parsed(text[at:stop]))
        except UnusableValue as error:
            raise UnusableValue(rows + error.row, str(error)) from None
        rows, at = rows + parts[-1].labels.size, stop
    return joined(parts)


def joined(parts: list[SparseText]) -> SparseText:
    """Return the rows of all parts, in order. Local."""
    none = SparseText(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    names = ("labels", "counts", "indices", "data")
    return SparseText(*(np.concatenate([getattr(part, name) for part in [none, *parts]]) for name in names))


def _parsed(text: bytes) -> SparseText:
    tokens = _Tokens(text)
    after_colon = np.concatenate([[False], tokens.ends[:-1] == _COLON])
    is_index = tokens.ends == _COLON
    first = np.concatenate([[True], tokens.ends[:-1] == _LINE])
    # Between two spaces is an empty token; its line goes on with the next one.
    kept = (tokens.lengths > 0) | is_index | after_colon
    line = np.cumsum(first) - 1
    return _rows(tokens.only(kept), line[kept], is_index[kept], after_colon[kept])


class _Tokens:
    """What lies between separators, and the separator that ends each."""

    def __init__(self, text: bytes) -> None:
        values = np.frombuffer(text if text.endswith(b"\n") else text + b"\n", np.uint8)
        kinds = _KINDS[values]
        places = np.flatnonzero(kinds)
        self.ends = kinds[places]
        self.lengths = np.diff(places, prepend=-1) - 1
        self.bytes = values[kinds == 0]
        self.starts = np.cumsum(self.lengths) - self.lengths

    def only(self, kept: NDArray[np.bool_]) -> _Tokens:
        """Return some of the tokens; those left out are empty."""
        chosen = object.__new__(_Tokens)
        chosen.ends, chosen.lengths, chosen.starts = self.ends[kept], self.lengths[kept], self.starts[kept]
        chosen.bytes = self.bytes
        return chosen

    def text(self, token: int) -> str:
        """Return one token."""
        start = int(self.starts[token])
        content = self.bytes[start : start + int(self.lengths[token])].tobytes()
        return str(content, "utf-8", "replace")

    def numbers(self, wanted: NDArray[np.bool_], kind: str) -> Any:
        """Return the wanted tokens as numbers, or None where one is none."""
        pa = pyarrow()
        lengths = self.lengths[wanted]
        if not lengths.size:
            return np.zeros(0, kind)
        content = self.bytes[np.repeat(wanted, self.lengths)]
        # A leading plus is common in labels; Arrow knows none.
        offsets = np.zeros(lengths.size + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        starts = offsets[:-1]  # no token is empty here
        leading = starts[content[starts] == ord("+")]
        if leading.size:
            offsets = (offsets - np.searchsorted(leading, offsets)).astype(np.int32)
            content = np.delete(content, leading)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(content))]
        try:
            strings = pa.Array.from_buffers(pa.string(), lengths.size, buffers)
            cast = strings.cast(getattr(pa, kind)())
        except pa.ArrowInvalid:
            return None
        return np.frombuffer(cast.buffers()[1], kind, count=lengths.size)


def _rows(
    tokens: _Tokens, line: NDArray[np.int64], is_index: NDArray[np.bool_], is_value: NDArray[np.bool_]
) -> SparseText:
    """Return the rows that the tokens make."""
    is_label = ~is_index & ~is_value
    opens = np.diff(line, prepend=-1) > 0
    row = np.cumsum(opens) - 1
    _check_shape(tokens, row, opens, is_index, is_value)
    labels = _numbers(tokens, is_label, row, "float64", "the label", "a number")
    indices = _numbers(tokens, is_index, row, "int64", "the index", "a whole number")
    data = _numbers(tokens, is_value, row, "float64", "the value", "a number")
    rows = row[is_index]
    unordered = np.flatnonzero((np.diff(rows) == 0) & (np.diff(indices) <= 0))
    if unordered.size:
        at = int(unordered[0])
        raise UnusableValue(
            int(rows[at]), f"index {indices[at + 1]} follows index {indices[at]}; they must ascend"
        )
    if indices.size and indices.min() < 0:
        at = int(np.argmax(indices < 0))
        raise UnusableValue(int(rows[at]), f"index {indices[at]} is below 0")
    return SparseText(labels, np.bincount(rows, minlength=labels.size).astype(np.int64), indices, data)


def _check_shape(
    tokens: _Tokens,
    row: NDArray[np.int64],
    opens: NDArray[np.bool_],
    is_index: NDArray[np.bool_],
    is_value: NDArray[np.bool_],
) -> None:
    """Raise for the first token that stands where it may not."""
    plain = ~is_index & ~is_value
    bad = (plain != opens) | (is_index & is_value) | (tokens.lengths == 0)
    if not bad.any():
        return
    at = int(bad.argmax())
    shown = repr(tokens.text(at)[:60]) if tokens.lengths[at] else "nothing"
    problem = f"{shown} stands where index:value is expected"
    if opens[at]:
        problem = f"{shown} stands where the label is expected"
    raise UnusableValue(int(row[at]), problem)


def _numbers(
    tokens: _Tokens, wanted: NDArray[np.bool_], row: NDArray[np.int64], kind: str, what: str, need: str
) -> Any:
    """Return the wanted tokens as numbers."""
    numbers = tokens.numbers(wanted, kind)
    if numbers is not None:
        return numbers
    places = np.flatnonzero(wanted)
    at = int(places[_good(tokens, places, kind)])
    shown = tokens.text(at)
    if shown == "qid":
        raise UnusableValue(int(row[at]), "query ids (qid:) are not read; remove them")
    raise UnusableValue(int(row[at]), f"{what} {shown[:60]!r} is not {need}")


def _good(tokens: _Tokens, places: NDArray[np.int64], kind: str) -> int:
    """Return how many first tokens are numbers, found by halving."""
    low, high = 0, places.size
    while high - low > 1:
        middle = (low + high) // 2
        some = np.zeros(tokens.lengths.size, bool)
        some[places[low:middle]] = True
        low, high = (middle, high) if tokens.numbers(some, kind) is not None else (low, middle)
    return low
