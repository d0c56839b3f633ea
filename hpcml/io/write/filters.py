"""How the rows of a data set are stored: in one piece or in chunks, through which filters."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from threading import get_ident
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import SpecError

__all__ = ["COMPRESSIONS", "CONTIGUOUS", "Chunk", "Storage", "create_dataset", "encode_chunks"]

CHUNK_BYTES = 1 << 20
"""Of a chunk whose rows are not given."""
_LARGEST_CHUNK = 1 << 30
_PLUGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "blosc-lz4": ("Blosc", {"cname": "lz4"}),
    "blosc-zstd": ("Blosc", {"cname": "zstd"}),
    "blosc2-lz4": ("Blosc2", {"cname": "lz4"}),
    "blosc2-zstd": ("Blosc2", {"cname": "zstd"}),
    "bitshuffle-lz4": ("Bitshuffle", {"cname": "lz4"}),
    "bitshuffle-zstd": ("Bitshuffle", {"cname": "zstd"}),
    "lz4": ("LZ4", {}),
    "zstd": ("Zstd", {}),
}
_LEVELS = {
    "gzip": (0, 9, "compression_opts"),
    "zstd": (1, 22, "clevel"),
    "blosc-lz4": (1, 9, "clevel"),
    "blosc-zstd": (1, 9, "clevel"),
    "blosc2-lz4": (1, 9, "clevel"),
    "blosc2-zstd": (1, 9, "clevel"),
    "bitshuffle-zstd": (1, 22, "clevel"),
}
COMPRESSIONS = ("none", "gzip", "lzf", *_PLUGINS)


@dataclass(frozen=True)
class Storage:
    """How data sets are stored.

    Parameters
    ----------
    contiguous : bool
        In one piece. Without it, and without chunks or a compression, also in one piece.
    chunk_rows : int, optional
        Rows of a chunk; by default the power of two with at most 1 MiB.
    compression : str
        One of `COMPRESSIONS`, some with a level, as in ``gzip:4``.
    shuffle : bool, optional
        Order the bytes of a chunk by their place in the number; by default where a compression gains by it.
    fletcher32 : bool
        A checksum a chunk.

    Raises
    ------
    SpecError
        Unknown names, a level out of range, what excludes each other, or a filter that needs hdf5plugin
        where that is missing.
    """

    contiguous: bool = False
    chunk_rows: int | None = None
    compression: str = "none"
    shuffle: bool | None = None
    fletcher32: bool = False

    def __post_init__(self) -> None:
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise SpecError(f"chunk_rows: {self.chunk_rows} does not fit; write an integer >= 1")
        name, _ = _parsed(self.compression)
        if name == "none" and self.shuffle:
            raise SpecError(
                "shuffle: orders bytes for a compression; name one, as in gzip:4, or leave it out"
            )
        if name.startswith("bitshuffle") and self.shuffle is False:
            raise SpecError(f"shuffle: {name} cannot do without; take lz4 or zstd")
        filtered = name != "none" or self.fletcher32
        if self.contiguous and (filtered or self.chunk_rows is not None):
            what = "chunk_rows" if self.chunk_rows is not None else "a filter"
            raise SpecError(
                f"contiguous: {what} does not fit, for only chunks have it; leave one of them out"
            )
        self.options()

    @property
    def is_chunked(self) -> bool:
        """Whether data sets have chunks."""
        chunked = self.chunk_rows is not None or self.compression != "none" or self.fletcher32
        return chunked and not self.contiguous

    def rows_of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int | None:
        """Return the rows of a chunk of a data set, None where it is stored in one piece. Local.

        Raises
        ------
        SpecError
            A chunk would have over 1 GiB.
        """
        if not self.is_chunked or not shape or 0 in shape:
            return None
        row_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
        fitting = 1 << (max(CHUNK_BYTES // row_bytes, 1).bit_length() - 1)
        rows = min(self.chunk_rows or fitting, shape[0])
        if rows * row_bytes > _LARGEST_CHUNK:
            raise SpecError(f"chunk_rows: {rows} rows of {row_bytes} bytes are over 1 GiB; write fewer")
        return rows

    def options(self) -> dict[str, Any]:
        """Return what h5py's create_dataset takes for the filters. Local.

        Raises
        ------
        SpecError
            hdf5plugin is missing.
        """
        name, level = _parsed(self.compression)
        values = {} if level is None else {_LEVELS[name][2]: level}
        common = {"shuffle": False, "fletcher32": self.fletcher32}
        if name.startswith("blosc"):
            way = "filters" if name.startswith("blosc2") else "shuffle"
            return {**common, **_plugin(name, {**values, way: int(self.shuffle is not False)})}
        if name.startswith("bitshuffle"):
            return {**common, **_plugin(name, values)}
        common["shuffle"] = name != "none" and self.shuffle is not False
        if name in _PLUGINS:
            return {**common, **_plugin(name, values)}
        return common if name == "none" else {**common, "compression": name, **values}


def _parsed(text: str) -> tuple[str, int | None]:
    """Return name and level of a compression."""
    name, colon, level = text.partition(":")
    if name not in COMPRESSIONS:
        raise SpecError(f"compression: {text!r} does not fit; write one of {', '.join(COMPRESSIONS)}")
    if not colon:
        return name, None
    low, high, _ = _LEVELS.get(name, (1, 0, ""))
    if high < low:
        raise SpecError(f"compression: {name} has no levels; write {name} alone")
    if not level.isdecimal() or not low <= int(level) <= high:
        raise SpecError(f"compression: the level of {name} is {low} to {high}, not {level!r}")
    return name, int(level)


def _plugin(name: str, more: dict[str, int]) -> dict[str, Any]:
    kind, values = _PLUGINS[name]
    try:
        plugins = import_module("hdf5plugin")
    except ImportError:
        raise SpecError(
            f"compression: {name} needs the package hdf5plugin, here and where the file is read; "
            "pip install hdf5plugin, or take gzip"
        ) from None
    return dict(getattr(plugins, kind)(**values, **more))


CONTIGUOUS = Storage()


class Chunk(NamedTuple):
    """A chunk as the file has it: its number, the mask of filters that were skipped, and its bytes."""

    number: int
    mask: int
    content: Any


def create_dataset(
    parent: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], storage: Storage
) -> Any:
    """Create a data set without its values; one in one piece has its place in the file now. Local."""
    rows = storage.rows_of(shape, dtype)
    if rows is not None:
        return parent.create_dataset(
            name, shape, dtype, chunks=(rows, *shape[1:]), track_times=False, **storage.options()
        )
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(parent.id, name.encode(), kind, space, creation))


def encode_chunks(values: NDArray[Any], first: int, rows: int, storage: Storage) -> list[Chunk]:
    """Return the chunks of some rows as HDF5 would store them. Local.

    HDF5 itself makes them, in a file in memory, so every filter that it has can be used.

    Parameters
    ----------
    values : (n, ...) array
        Rows from the start of a chunk on; a last chunk that is not full is filled with zeros.
    first : int
        Number of the first chunk.
    rows : int
        Of a chunk.
    storage : Storage
    """
    n_chunks = -(-len(values) // rows)
    if len(values) < n_chunks * rows:
        full = np.zeros((n_chunks * rows, *values.shape[1:]), values.dtype)
        full[: len(values)] = values
        values = full
    options = storage.options()
    if options == {"shuffle": False, "fletcher32": False}:
        pieces = np.ascontiguousarray(values).reshape(n_chunks, -1)
        return [Chunk(first + i, 0, piece.view(np.uint8)) for i, piece in enumerate(pieces)]
    name = f"chunks {get_ident()}"  # HDF5 knows open files by name, those in memory too
    with h5py.File(
        name, "w", driver="core", backing_store=False, block_size=CHUNK_BYTES, rdcc_nbytes=0
    ) as file:
        chunks = (rows, *values.shape[1:])
        dataset = file.create_dataset("chunks", values.shape, values.dtype, chunks=chunks, **options)
        dataset.write_direct(np.ascontiguousarray(values))
        rest = (0,) * (values.ndim - 1)
        read = dataset.id.read_direct_chunk
        return [Chunk(first + i, *read((i * rows, *rest))) for i in range(n_chunks)]
