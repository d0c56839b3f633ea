"""Rows that were staged: files of raw numbers on scratch, mapped and compared with their digests."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.data import Matrix, Source
from hpcml.errors import OutputError
from hpcml.io.read.rows import WIDE_UNIT_BYTES, Buffers, RowReader, Rows
from hpcml.io.scratch.folder import Folder

__all__ = ["Record", "Shape", "StagedRows", "damaged", "map_parts", "offsets_of", "parse_records"]

_COLUMNS = ("y", "weight", "offset")


class Shape(NamedTuple):
    """What a reader gives, without its rows."""

    n_samples: int
    n_features: int
    dtype: np.dtype[Any]
    is_sparse: bool
    source: Source

    @classmethod
    def of(cls, reader: RowReader) -> Shape:
        """Return the shape of what a reader gives. Local."""
        return cls(reader.n_samples, reader.n_features, reader.dtype, reader.is_sparse, reader.source)

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """The little-endian type of each part's numbers; a part is a file."""
        X: dict[str, Any] = {"data": self.dtype, "indices": np.int32, "indptr": np.int64}
        parts = X if self.is_sparse else {"X": self.dtype}
        parts |= dict.fromkeys(_COLUMNS, np.float64)
        return {part: np.dtype(kind).newbyteorder("<") for part, kind in parts.items()}


@dataclass(frozen=True)
class Record:
    """A shard that is wholly on scratch: bytes and XXH3 (128 bit) of each of its parts."""

    shard: int
    sizes: Mapping[str, int]
    digests: Mapping[str, str]

    def render(self) -> bytes:
        """Return its line in a journal. Local."""
        text = json.dumps([self.shard, self.sizes, self.digests]).encode()
        return _digest_of(text).encode() + b" " + text + b"\n"


def parse_records(content: bytes, shards: range) -> list[Record]:
    """Return the records of the first of `shards`, up to a line that is torn or out of order. Local."""
    records = []
    for shard, line in zip(shards, content.split(b"\n")[:-1], strict=False):
        digest, _, text = line.partition(b" ")
        if _digest_of(text).encode() != digest:
            break
        record = Record(*json.loads(text))
        if record.shard != shard:
            break
        records.append(record)
    return records


def _digest_of(content: bytes | memoryview) -> str:
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(content)


def offsets_of(records: Sequence[Record], types: Mapping[str, Any]) -> Iterator[dict[str, int]]:
    """Yield where the parts of each record's shard begin, and at last where the next shard's would. Local."""
    # indptr has one number more than rows: the leading 0 of the run.
    offsets = {part: 8 if part == "indptr" else 0 for part in types}
    for record in records:
        yield dict(offsets)
        for part, size in record.sizes.items():
            offsets[part] += size
    yield offsets


def map_parts(folder: Folder, stem: str, types: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """Return the bytes of the parts that are there, mapped read-only. Local.

    Raises
    ------
    OutputError
        A file cannot be mapped.
    """
    names = set(folder.names())
    return {part: _mapped(folder, f"{stem}.{part}") for part in types if f"{stem}.{part}" in names}


def _mapped(folder: Folder, name: str) -> NDArray[np.uint8]:
    handle = folder.open(name)
    try:
        size = os.fstat(handle).st_size
        if size == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(handle, size, prot=mmap.PROT_READ), np.uint8)
    except OSError as error:
        raise OutputError(f"cannot map {folder.path / name}: {error.strerror or error}") from None
    finally:
        os.close(handle)


def damaged(
    parts: Mapping[str, NDArray[np.uint8]], records: Sequence[Record], types: Mapping[str, Any]
) -> list[tuple[Record, dict[str, int], str]]:
    """Records whose bytes are not those that were staged, where they begin, and which part. Local."""
    found = []
    for record, offsets in zip(records, offsets_of(records, types), strict=False):
        for part, size in record.sizes.items():
            content = parts.get(part, np.empty(0, np.uint8))[offsets[part] : offsets[part] + size]
            if content.size != size or _digest_of(content.data) != record.digests[part]:
                found.append((record, offsets, part))
                break
    return found


class StagedRows:
    """The rows of this rank's shards, mapped from files on scratch: a RowReader of them. All Local.

    Arrays that `read` returns are views of the files, read-only; they stay when the files are removed.

    Parameters
    ----------
    shape : Shape
    start, stop : int
        The rows that are there.
    parts : dict of (bytes,) array
        As `map_parts` gives them.
    columns : tuple of str
        Which of y, weight and offset the rows have.
    """

    def __init__(
        self,
        shape: Shape,
        start: int,
        stop: int,
        parts: Mapping[str, NDArray[np.uint8]],
        columns: tuple[str, ...],
    ) -> None:
        self.n_samples, self.n_features = shape.n_samples, shape.n_features
        self.dtype, self.is_sparse, self.source = shape.dtype, shape.is_sparse, shape.source
        self.start, self.stop = start, stop
        self.unit_bytes = WIDE_UNIT_BYTES  # nothing is copied: a unit takes no memory
        nothing = np.zeros(8, np.uint8)  # the leading 0 of indptr
        self._parts = {
            part: parts.get(part, nothing if part == "indptr" else nothing[:0]).view(kind)
            for part, kind in shape.types.items()
            if part not in _COLUMNS or part in columns
        }

    def read(self, start: int, stop: int, buffers: Buffers | None = None) -> Rows:
        """Return rows ``start:stop`` of the source, among those that are there; `buffers` are not needed.

        Raises
        ------
        IndexError
            They are another rank's.
        """
        if not self.start <= start <= stop <= self.stop:
            raise IndexError(f"rows {start} to {stop} were asked for, {self.start} to {self.stop} are staged")
        first, last = start - self.start, stop - self.start
        columns = (self._parts[name][first:last] if name in self._parts else None for name in _COLUMNS)
        return Rows(self._csr(first, last) if self.is_sparse else self._dense(first, last), *columns)

    def _dense(self, first: int, last: int) -> NDArray[Any]:
        return self._parts["X"].reshape(-1, self.n_features)[first:last]

    def _csr(self, first: int, last: int) -> Matrix:
        indptr = self._parts["indptr"][first : last + 1]
        start, stop = int(indptr[0]), int(indptr[-1])
        # SciPy copies columns and pointers of different types at each product.
        kind = np.int32 if stop - start <= np.iinfo(np.int32).max else np.int64
        X = sparse.csr_array((last - first, self.n_features), dtype=self.dtype)
        X.data = self._parts["data"][start:stop]
        X.indices = self._parts["indices"][start:stop].astype(kind, copy=False)
        X.indptr = (indptr - start).astype(kind)
        X.has_canonical_format = True
        return X

    def check(self) -> None:
        """Do nothing: the files are private, and were compared with their digests when they were mapped."""

    def close(self) -> None:
        """Let go of the files; arrays that were returned stay."""
        self.stop = self.start
        self._parts.clear()
