"""Rows of HDF5 files, opened by all ranks and read by each for itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.collectives import Communicator, agreed
from hpcml.data import Matrix, Source
from hpcml.errors import DataError
from hpcml.io.files import index_path
from hpcml.io.read.array_reader import ArrayReader, ChunkReader, FlatReader, LibraryReader, read_as
from hpcml.io.read.cores import cores_of_this_process
from hpcml.io.read.decode import make_decoder
from hpcml.io.read.decoders import Decoders
from hpcml.io.read.handle import Traffic
from hpcml.io.read.hdf5 import Columns, Located, locate
from hpcml.io.read.layout import Segment, TableLayout, joined
from hpcml.io.read.mpio import check_mpio
from hpcml.io.read.opened import OpenFiles
from hpcml.io.read.rows import UNIT_BYTES, WIDE_UNIT_BYTES, Buffers, Rows
from hpcml.io.read.stored import StoredArray

if TYPE_CHECKING:
    from hpcml.io.index.side_file import FileIndex
    from hpcml.io.index.verify import Verification

__all__ = ["Access", "HDF5Table", "open_table"]

_MOST_KEPT = 64
_INT32 = np.dtype(np.int32)
_INT64 = np.dtype(np.int64)
_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True)
class Access:
    """How files are read; no number follows from it.

    Parameters
    ----------
    chunk_cache : int
        Most bytes of decoded chunks that a process keeps because its reads cut them.
    threads : int
        Threads that decode chunks; 0: this process's share of the cores, found out where chunks have filters.
    allow_external : bool
        Follow links and virtual data sets out of a file's directory.
    verify : bool
        Compare rows, as they are read, with the index of their file where there is one.
    driver : {"independent", "mpio"}
        "mpio" opens files through MPI-IO, by all ranks together, and leaves all reading to HDF5, which may
        then be asked by the main thread alone.
    """

    chunk_cache: int = 64 << 20
    threads: int = 1
    allow_external: bool = False
    verify: bool = True
    driver: str = "independent"


class HDF5Table:
    """X, y, weight and offset of one file or of several, one after another. A RowReader; all Local.

    Parameters
    ----------
    layout : TableLayout
    names : Columns
    dtype : str or None
        Of X in memory, float32 or float64; None keeps a stored float32 or float64 and makes the rest float64.
    access : Access
    feature_names : list of str or None
        Known to the first rank alone.
    """

    def __init__(
        self,
        layout: TableLayout,
        names: Columns,
        dtype: str | None = None,
        access: Access = Access(),
        feature_names: list[str] | None = None,
    ) -> None:
        self.layout = layout
        self.names = names
        self.feature_names = feature_names
        stored = layout.stored_dtype
        keeps = stored in (np.float32, np.float64)
        self.dtype = np.dtype(dtype or (stored if keeps else np.float64))
        self.n_samples, self.n_features = layout.n_samples, layout.n_features
        self.is_sparse, self.labels = layout.is_sparse, layout.labels
        self.traffic = Traffic()
        self.access = access
        self._files = OpenFiles(layout.files, self.traffic, layout.read_by_library)
        self.wraps: list[Callable[[int, ArrayReader], ArrayReader]] = []
        self.verification: Verification | None = None
        self.compare_with(layout.indexes)
        self._readers: dict[tuple[int, str], ArrayReader] = {}
        self._starts = {name: [part.start for part in parts] for name, parts in layout.columns.items()}
        self._decoders: Decoders | None = None

    @property
    def path(self) -> Path:
        """The file, the first of several."""
        return self.layout.files[0].path

    @property
    def source(self) -> Source:
        """What decides the partition."""
        return self.layout.source(self.dtype.itemsize)

    @property
    def unit_bytes(self) -> int:
        """Bytes of X that are best asked for at a time: threads that decode need chunks to share."""
        stored = (array for part in self.layout.columns["X"] for array in part.arrays)
        is_shared = self.access.threads > 1 and any(array.filters for array in stored)
        return WIDE_UNIT_BYTES if is_shared else UNIT_BYTES

    def compare_with(self, indexes: list[FileIndex | None]) -> None:
        """Compare what is read from now on with an index of each file. Before the first read."""
        if any(indexes):
            from hpcml.io.index.verify import Verification

            self.verification = Verification(replace(self.layout, indexes=indexes))
            self.wraps.append(self.verification.wrapped)

    def adopt(self, number: int, found: Located) -> None:
        """Take over what a file was found with."""
        self._files.adopt(number, found.descriptor, found.library)

    def share(self, comm: Communicator) -> None:
        """Open all files through MPI-IO. Collective, one small message a file."""
        self._files.share(comm)

    def read(self, start: int, stop: int, buffers: Buffers | None = None) -> Rows:
        """Return rows ``start:stop``, in `buffers` where given: their next use overwrites them.

        Raises
        ------
        DataError
            The file ends before them, cannot be read or decoded, or its CSR arrays contradict.
        """
        held = buffers or Buffers()
        X = self._csr(start, stop, held) if self.is_sparse else self._dense(start, stop, held)
        y, weight, offset, exposure = (
            self._column(name, start, stop, held) for name in ("y", "weight", "offset", "exposure")
        )
        if exposure is not None:
            with np.errstate(divide="ignore", invalid="ignore"):  # the survey names rows that have none
                offset = np.log(exposure, out=exposure)
        return Rows(X, y, weight, offset)

    def _dense(self, start: int, stop: int, buffers: Buffers) -> NDArray[Any]:
        out = buffers.array("X", (stop - start, self.n_features), self.dtype)
        self._fill("X", start, stop, out, buffers)
        return out

    def _column(self, name: str, start: int, stop: int, buffers: Buffers) -> NDArray[np.float64] | None:
        """Return rows of a column. Fresh memory: statistics keep them."""
        if name not in self.layout.columns:
            return None
        out = np.empty(stop - start, _FLOAT64)
        self._fill(name, start, stop, out, buffers)
        return out

    def _fill(self, name: str, start: int, stop: int, out: NDArray[Any], buffers: Buffers) -> None:
        for part, first, last in self._parts(name, start, stop):
            (stored,) = part.arrays
            is_whole = last - first == stop - start and out.shape[1:] == stored.shape[1:]
            target = out if is_whole else out[first - start : last - start].reshape(-1, *stored.shape[1:])
            at = part.source_start - part.start
            read_as(self._reader(part.file, stored), first + at, last + at, target, buffers)

    def _parts(self, name: str, start: int, stop: int) -> Iterator[tuple[Segment, int, int]]:
        """Yield the segments that hold rows ``start:stop``, each with the rows to take from it."""
        parts = self.layout.columns[name]
        for i in range(bisect_right(self._starts[name], start) - 1, len(parts)):
            part = parts[i]
            if start >= stop or part.start >= stop:
                return
            yield part, start, min(stop, part.stop)
            start = part.stop

    def _reader(self, number: int, stored: StoredArray) -> ArrayReader:
        key = (number, stored.name)
        if key not in self._readers:
            reader = self.make_reader(number, stored)
            for wrap in self.wraps:
                reader = wrap(number, reader)
            self._readers[key] = reader
        return self._readers[key]

    def make_reader(self, number: int, stored: StoredArray) -> ArrayReader:
        """Return what reads an array of a file as it is stored."""
        by_offset = self.access.driver != "mpio"
        if stored.is_flat and by_offset:
            return FlatReader(stored, self._files.handle(number))
        decode = make_decoder(stored) if stored.chunks is not None and by_offset else None
        if decode is None:
            item = self._files.library(number)[stored.name]
            from hpcml.io.describe.storage import check_filters  # needed by few files

            check_filters(item)
            return LibraryReader(stored, item, self.traffic)
        handle = self._files.handle(number)
        if stored.filters and self._decoders is None and self.access.threads > 1:
            self._decoders = Decoders(self.access.threads)
        return ChunkReader(stored, handle, decode, self.access.chunk_cache, self._decoders)

    def _csr(self, start: int, stop: int, buffers: Buffers) -> Matrix:
        parts = list(self._parts("X", start, stop))
        indptr = buffers.array("indptr", (stop - start + 1,), _INT64)
        indptr[0] = 0
        spans = []
        for part, first, last in parts:
            spans.append(self._borders(part, first, last, buffers))
            rows = slice(first - start + 1, last - start + 1)
            indptr[rows] = spans[-1][1:] - spans[-1][0] + indptr[first - start]
        n_entries = int(indptr[-1])
        data = buffers.array("data", (n_entries,), self.dtype)
        indices = buffers.array("indices", (n_entries,), _INT32)
        at = 0
        for (part, *_), span in zip(parts, spans, strict=True):
            first, last = int(span[0]), int(span[-1])
            inside = slice(at, at + last - first)
            self._entries(part, first, last, data[inside], indices[inside], buffers)
            at = inside.stop
        return _csr_view(data, indices, indptr, self.n_features)

    def _borders(self, part: Segment, first: int, last: int, buffers: Buffers) -> NDArray[np.int64]:
        """Return where rows of one file begin among its entries."""
        data, _, stored = part.arrays
        at = part.source_start - part.start
        borders = np.empty(last - first + 1, _INT64)
        read_as(self._reader(part.file, stored), first + at, last + at + 1, borders, buffers)
        if (np.diff(borders) < 0).any() or borders[0] < 0 or borders[-1] > data.shape[0]:
            path = self.layout.files[part.file].path
            raise DataError(f"{path}: {stored.name} does not rise between rows {first + at} and {last + at}")
        return borders

    def _entries(
        self,
        part: Segment,
        first: int,
        last: int,
        data: NDArray[Any],
        indices: NDArray[np.int32],
        buffers: Buffers,
    ) -> None:
        values, columns, _ = part.arrays
        read_as(self._reader(part.file, values), first, last, data, buffers)
        wide = columns.dtype.itemsize > indices.itemsize
        read = buffers.array("columns", indices.shape, columns.dtype) if wide else indices
        read_as(self._reader(part.file, columns), first, last, read, buffers)
        if read.size and (read.min() < 0 or read.max() >= self.n_features):
            path = self.layout.files[part.file].path
            raise DataError(
                f"{path}: {columns.name} names a column outside 0..{self.n_features - 1} in its entries "
                f"{first} to {last}"
            )
        if wide:
            indices[...] = read

    def check(self) -> None:
        """Raise a DataError if a file is no longer the one that was opened: its rows may have been others."""
        self._files.check()

    def close(self) -> None:
        """Close the files; rows in memory stay."""
        self._readers.clear()
        self._files.close()
        if self.verification is not None:
            self.verification.close()
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def __enter__(self) -> HDF5Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _csr_view(data: NDArray[Any], indices: Any, indptr: Any, n_features: int) -> Any:
    """Return CSR rows over these arrays; SciPy's constructor would look through all of them."""
    view = sparse.csr_array((indptr.size - 1, n_features), dtype=data.dtype)
    view.data, view.indices, view.indptr = data, indices, indptr
    return view


def open_table(
    comm: Communicator,
    paths: Sequence[Path],
    names: Columns,
    dtype: str | None = None,
    access: Access = Access(),
) -> HDF5Table:
    """Open the rows of one HDF5 file or of several, one after another, on all ranks.

    Collective, three small messages, two more for `access.threads` 0 where chunks have filters. Each file's
    layout is read through HDF5 by one rank and shared; ranks then open only the files that hold their own
    rows; through MPI-IO all of them, with a message each.

    Parameters
    ----------
    comm : Communicator
    paths : sequence of Path
        In the order of the rows.
    names : Columns
    dtype : {None, "float32", "float64"}
    access : Access

    Raises
    ------
    DataError
        A file or a data set is missing or unusable, or files do not fit together; on every rank.
    SpecError
        The driver is mpio and h5py was not built for it.
    """
    mine: list[Located] = []
    with ExitStack() as refused:
        with agreed(comm):
            if access.driver == "mpio":
                check_mpio()
            for path in _dealt(comm, paths):
                mine.append(_located(path, names, access))
                refused.callback(mine[-1].close)
        trees = comm.allgather([one.layout.to_json() for one in mine])
        ordered = [TableLayout.from_json(trees[i % comm.size][i // comm.size]) for i in range(len(paths))]
        with agreed(comm):
            layout = joined(ordered)
        opened = refused.pop_all()
    features = mine[0].feature_names if comm.rank == 0 else None
    if access.threads == 0:
        access = replace(access, threads=_threads(comm, layout, access))
    table = HDF5Table(layout, names, dtype, access, features)
    if access.driver == "mpio":
        opened.close()
        table.share(comm)
    else:
        _adopt(table, comm, ordered, mine)
    return table


def _threads(comm: Communicator, layout: TableLayout, access: Access) -> int:
    """Return how many threads may decode chunks; without filters there is nothing to do for them."""
    stored = (array for part in chain(*layout.columns.values()) for array in part.arrays)
    if access.driver == "mpio" or not any(array.filters for array in stored):
        return 1
    return cores_of_this_process(comm)


def _located(path: Path, names: Columns, access: Access) -> Located:
    """Return where the rows of a file lie, and the indexes of all files that have some of them."""
    one = locate(path, names, allow_external=access.allow_external)
    if not access.verify:
        return one
    if not any(index_path(file.path).exists() for file in one.layout.files):
        return one._replace(layout=replace(one.layout, indexes=[None] * len(one.layout.files)))
    from hpcml.io.index.side_file import read_index

    indexes = [read_index(*file) for file in one.layout.files]
    return one._replace(layout=replace(one.layout, indexes=indexes))


def _dealt(comm: Communicator, paths: Sequence[Path]) -> Sequence[Path]:
    return paths[comm.rank :: comm.size]


def _adopt(
    table: HDF5Table, comm: Communicator, ordered: Sequence[TableLayout], mine: Sequence[Located]
) -> None:
    """Keep what is open already, unless that is many files: most would hold rows of other ranks."""
    first_files = np.cumsum([0, *(len(one.files) for one in ordered)])
    for i, one in enumerate(mine):
        if len(mine) <= _MOST_KEPT:
            table.adopt(int(first_files[comm.rank + i * comm.size]), one)
        else:
            one.close()
