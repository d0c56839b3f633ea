"""How one data set is stored and what reading it costs, from its metadata alone."""

from __future__ import annotations

from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import h5py

from hpcml.data import Source, make_partition
from hpcml.errors import DataError
from hpcml.io.read.opening import check_declared, check_written, expected_chunks, external_sentence
from hpcml.io.read.virtual import virtual_parts

__all__ = ["check_filters", "describe_storage", "filters_of", "share_bytes"]

_RUN_BYTES = 8 << 20
_RANKS = (1, 16, 256)
_NAMES = {
    1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 305: "lzo",
    307: "bzip2", 32000: "lzf", 32001: "blosc", 32002: "mafisc", 32003: "snappy", 32004: "lz4",
    32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32017: "sz", 32018: "fcidecomp", 32019: "jpeg",
    32024: "sz3", 32026: "blosc2", 32028: "sperr", 32033: "htj2k",
}  # fmt: skip
_BLOSC, _BLOSC2, _BITSHUFFLE = 32001, 32026, 32008
_INSIDE_BLOSC = {0: "lz", 1: "lz4", 2: "lz4hc", 3: "snappy", 4: "zlib", 5: "zstd"}
_INSIDE_BITSHUFFLE = {2: "lz4", 3: "zstd"}
_LEVEL_AT = {1: 0, 307: 0, 32001: 4, 32015: 0, 32026: 4}  # place of the level among a filter's numbers
_OF_HDF5PLUGIN = {307, 32001, 32004, 32008, 32013, 32015, 32017, 32018, 32024, 32026, 32028, 32033}


def filters_of(item: h5py.Dataset) -> list[dict[str, Any]]:
    """Return name, number, level and what to install (None: it can be read) of each filter. Local."""
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    return [_filter(number, values, text) for number, _, values, text in filters]


def check_filters(item: h5py.Dataset) -> None:
    """Refuse a data set whose filters HDF5 cannot undo here; those of hdf5plugin are registered. Local.

    Raises
    ------
    DataError
        It says what to install.
    """
    for each in filters_of(item):
        if each["install"]:
            what = f"{(item.name or '?').lstrip('/')!r} is compressed by {each['name']}"
            raise DataError(f"{item.file.filename}: {what}; to read it: {each['install']}")


def _filter(number: int, values: tuple[int, ...], text: bytes) -> dict[str, Any]:
    inside = ""
    if number in (_BLOSC, _BLOSC2) and len(values) > 6:
        inside = _INSIDE_BLOSC.get(values[6], "")
    elif number == _BITSHUFFLE and len(values) > 4:
        inside = _INSIDE_BITSHUFFLE.get(values[4], "")
    name = _NAMES.get(number) or text.decode(errors="replace").partition(";")[0] or f"filter {number}"
    place = _LEVEL_AT.get(number, len(values))
    return {
        "name": f"{name}-{inside}" if inside else name,
        "number": number,
        "level": values[place] if place < len(values) else None,
        "install": _to_install(number),
    }


def _to_install(number: int) -> str | None:
    """Return what brings a filter that this installation cannot undo."""
    if number in _OF_HDF5PLUGIN and find_spec("hdf5plugin"):
        import hdf5plugin  # noqa: F401  (its import registers the filters)
    if h5py.h5z.filter_avail(number):
        return None
    return "pip install hdf5plugin" if number in _OF_HDF5PLUGIN else f"a plugin for the HDF5 filter {number}"


def describe_storage(item: h5py.Dataset, path: Path) -> dict[str, Any]:
    """Return how a data set lies in its file, what reading rows costs, and why a job would refuse it. Local.

    Returns
    -------
    dict
        shape, dtype, layout; bytes (of the array), stored bytes, and the ratio of what is written to them;
        for chunks: their shape, filters, number and how many are missing; amplification: bytes read for a
        byte wanted, of one row and of 8 MiB of rows that start anywhere; sources of a virtual data set;
        problem: why a job would refuse it, or absent.
    """
    found: dict[str, Any] = {
        "shape": None if item.shape is None else [int(n) for n in item.shape],
        "dtype": str(item.dtype),
        "layout": _layout(item),
        "bytes": int(item.size or 0) * item.dtype.itemsize,
        "stored bytes": int(item.id.get_storage_size()),
        **_trouble(item, path),
    }
    held = found["bytes"]
    if item.chunks:
        present = int(item.id.get_num_chunks())
        held = present * int(prod(item.chunks)) * item.dtype.itemsize
        found["chunks"] = [int(n) for n in item.chunks]
        found["filters"] = filters_of(item)
        found["n chunks"] = expected_chunks(item)
        found["missing chunks"] = max(found["n chunks"] - present, 0)
    if found["stored bytes"] and found["bytes"]:
        found["ratio"] = held / found["stored bytes"]
        found["amplification"] = _amplification(item)
    if item.external:
        found["external files"] = [name for name, _, _ in item.external]
    return found


def _layout(item: h5py.Dataset) -> str:
    if item.is_virtual:
        return "virtual"
    if item.external:
        return "external"
    if item.chunks:
        return "chunked"
    compact = item.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return "compact" if compact else "contiguous"


def _amplification(item: h5py.Dataset) -> dict[str, float]:
    """Return bytes read per byte wanted: r rows touch (r - 1) / c + 1 chunks of c rows on average."""
    if not item.chunks or not item.shape:
        return {"row": 1.0, "8 MiB": 1.0}
    n, columns = int(item.shape[0]), item.shape[1:]
    chunk_rows = min(int(item.chunks[0]), n)
    across = prod(-(-m // c) * c / m for m, c in zip(columns, item.chunks[1:], strict=True))
    row_bytes = max(1, prod(columns) * item.dtype.itemsize)
    run = min(n, max(1, _RUN_BYTES // row_bytes))
    chunks = min((run - 1) / chunk_rows + 1, -(-n // chunk_rows))
    return {"row": chunk_rows * across, "8 MiB": chunks * chunk_rows / run * across}


def _trouble(item: h5py.Dataset, path: Path) -> dict[str, Any]:
    """Return the sources of a virtual data set, and why a job would refuse this one."""
    try:
        check_declared(item)
        check_written(item)
        if item.external:
            return {"problem": external_sentence(item.name[1:], item.external)}
        if not item.is_virtual:
            return {}
        return {"sources": list(dict.fromkeys(str(part.path) for part in virtual_parts(item, path)))}
    except DataError as error:
        return {"problem": str(error).removeprefix(f"{path}: ")}


def share_bytes(n_rows: int, n_columns: int, chunk_rows: int, entries: float | None) -> dict[str, list[int]]:
    """Return the bytes of the largest share of rows and labels, for 1, 16 and 256 ranks. Local.

    Parameters
    ----------
    n_rows, n_columns, chunk_rows : int
    entries : float or None
        Stored entries of a CSR row; None of a dense one.
    """
    shares = {}
    for dtype, size in (("float64", 8), ("float32", 4)):
        row = n_columns * size if entries is None else entries * (size + 4)
        source = Source(n_rows, n_columns, row, chunk_rows)
        in_memory = row + 8 + (0 if entries is None else 8)  # a label, and where a CSR row starts
        shares[dtype] = [int(_most_rows(source, ranks) * in_memory) for ranks in _RANKS]
    return shares


def _most_rows(source: Source, ranks: int) -> int:
    partition = make_partition(source, ranks)
    spans = (partition.rows_of(partition.shards_of(rank)) for rank in range(ranks))
    return max(stop - start for start, stop in spans)
