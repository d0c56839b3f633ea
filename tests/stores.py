"""Ways to store the same rows in HDF5 files, and what h5py says of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import small
from scipy import sparse

from hpcml.collectives import Communicator, SerialCommunicator
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.rows import Buffers
from hpcml.io.read.table import Access, HDF5Table, open_table

ROW_CHUNKS = (48, small.N_COLUMNS)  # 600 rows: the last chunk is half empty
WIDE_CHUNKS = (50, 4)  # two columns of chunks, the second one half empty
STORED: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "row chunks": {"chunks": ROW_CHUNKS},
    "2-D chunks": {"chunks": WIDE_CHUNKS},
    "one chunk": {"chunks": (1000, 8), "maxshape": (None, None)},  # taller and wider than the rows
    "gzip": {"chunks": ROW_CHUNKS, "compression": "gzip"},
    "gzip shuffle": {"chunks": ROW_CHUNKS, "compression": "gzip", "shuffle": True},
    "gzip 2-D": {"chunks": WIDE_CHUNKS, "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": ROW_CHUNKS, "compression": "lzf"},
    "lzf shuffle": {"chunks": ROW_CHUNKS, "compression": "lzf", "shuffle": True},
    "zstd": {"chunks": ROW_CHUNKS, **hdf5plugin.Zstd()},
    "zstd shuffle": {"chunks": ROW_CHUNKS, "shuffle": True, **hdf5plugin.Zstd()},
    "blosc lz4": {"chunks": ROW_CHUNKS, **hdf5plugin.Blosc(cname="lz4")},
    "blosc zstd": {
        "chunks": ROW_CHUNKS,
        **hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    },
    "shuffle alone": {"chunks": ROW_CHUNKS, "shuffle": True},
    "fletcher32": {"chunks": ROW_CHUNKS, "fletcher32": True},
    "gzip fletcher32": {"chunks": ROW_CHUNKS, "compression": "gzip", "fletcher32": True},
    "bitshuffle": {"chunks": ROW_CHUNKS, **hdf5plugin.Bitshuffle()},
    "blosc2": {"chunks": ROW_CHUNKS, **hdf5plugin.Blosc2()},
}
RANGES = [(0, small.N_ROWS), (0, 1), (47, 49), (100, 400), (599, 600), (300, 300)]
DTYPES = ["<f8", ">f8", "<f4", ">f4", "<f2", "|i1", ">i2", "<i4", "<i8", "|u1", "<u8", "|b1"]
SERIAL = SerialCommunicator()


def matrix(dtype: str = "<f8", n: int = small.N_ROWS, d: int = small.N_COLUMNS, seed: int = 0) -> Any:
    """Return rows of a type that compress somewhat."""
    rng = np.random.default_rng(seed)
    whole = np.round(rng.normal(size=(n, d)) * 40)
    kind = np.dtype(dtype).kind
    return (whole > 0 if kind == "b" else np.abs(whole) if kind == "u" else whole).astype(dtype)


def open_below(directory: Path) -> list[str]:
    """Return what this process holds open in a directory, a name for each descriptor."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own is closed by now
            names.append(str(descriptor.readlink()))
    return [name for name in names if name.startswith(f"{directory}/")]


def put(path: Path, X: Any, *, name: str = "X", **options: Any) -> Path:
    """Write rows and what stands beside them: y and w."""
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=X, **options)
        put_columns(file, X.shape[0])
    return path


def put_columns(file: h5py.File, n: int) -> None:
    """Write labels and weights of `n` rows."""
    file["y"] = (np.arange(n) % 3 == 0).astype(np.int8)
    file["w"] = 0.5 + np.arange(n) / n


def put_compact(path: Path, X: Any) -> Path:
    """Write rows into the header of their data set."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        kind, space = h5py.h5t.py_create(X.dtype, logical=True), h5py.h5s.create_simple(X.shape)
        h5py.Dataset(h5py.h5d.create(file.id, b"X", kind, space, plist))[...] = X
        put_columns(file, X.shape[0])
    return path


def put_sparse(path: Path, X: Any, index: str = "<i4", **options: Any) -> Path:
    """Write rows as a CSR group whose arrays are stored with `options`."""
    rows = sparse.csr_array(X.astype(X.dtype.newbyteorder("=")))
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        for part, kind in (("data", X.dtype), ("indices", index), ("indptr", index)):
            group.create_dataset(part, data=getattr(rows, part).astype(kind), **options)
        group.attrs["shape"] = X.shape
        put_columns(file, X.shape[0])
    return path


def opened(
    *paths: Path,
    x: str = "X",
    y: str | None = "y",
    weight: str | None = None,
    dtype: str | None = None,
    comm: Communicator = SERIAL,
    **access: Any,
) -> HDF5Table:
    """Return the table of these files."""
    return open_table(comm, paths, Columns(x, y, weight), dtype, Access(**access))


def dense(X: Any) -> Any:
    """Return rows as an array."""
    return X.toarray() if sparse.issparse(X) else X


def sliced(path: Path, name: str, start: int, stop: int) -> Any:
    """Return rows as h5py gives them."""
    with h5py.File(path, locking=False, rdcc_nbytes=0) as file:
        return file[name][start:stop]


def call_of(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """Return `function`, every call's arguments noted in `calls`."""

    def noted(*args: Any, **keywords: Any) -> Any:
        calls.append(args)
        return function(*args, **keywords)

    return noted


def check_rows(table: HDF5Table, X: Any, ranges: Any = RANGES) -> None:
    """Compare ranges of rows with those of an array, from buffers and without."""
    columns = [(np.arange(len(X)) % 3 == 0) * 1.0, 0.5 + np.arange(len(X)) / len(X)]
    held = Buffers()
    for start, stop in ranges:
        for buffers in (None, held):
            rows = table.read(start, stop, buffers)
            assert rows.X.dtype == table.dtype
            assert rows.X.shape == (stop - start, X.shape[1])
            np.testing.assert_array_equal(dense(rows.X), X[start:stop].astype(table.dtype))
            for found, wanted in zip((rows.y, rows.weight), columns, strict=True):
                if found is not None:
                    assert found.dtype == np.float64
                    np.testing.assert_array_equal(found, wanted[start:stop])


def some_zeros(dtype: str = "<f8") -> Any:
    """Return rows of which most numbers are zero."""
    X = matrix(dtype)
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0
    X[100:110] = 0  # rows without entries
    X[-1] = 0
    return X
