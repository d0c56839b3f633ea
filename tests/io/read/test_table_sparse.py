"""Rows of CSR groups: what SciPy makes of them, or an error that names what contradicts."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import small
import stores
from scipy import sparse

from hpcml.errors import DataError

ROWS = small.N_ROWS


CSR = {
    "contiguous": {},
    "gzip": {"chunks": (100,), "compression": "gzip", "shuffle": True},  # a row of two chunks, and reads
    "chunks": {"chunks": (64,)},
    "one chunk": {"chunks": (10_000,), "maxshape": (None,)},
    "fletcher32": {"chunks": (100,), "fletcher32": True},
    "lzf": {"chunks": (7,), "compression": "lzf"},
}


@pytest.mark.parametrize("form", CSR)
@pytest.mark.parametrize("index", ["<i4", "<i8", ">i4", "<u2", "<u8"])
@pytest.mark.parametrize("chunk_cache", [0, 64 << 20])
def test_sparse_rows(tmp_path, form, index, chunk_cache):
    X = stores.some_zeros()
    path = stores.put_sparse(tmp_path / "rows.h5", X, index, **CSR[form])
    with stores.opened(path, weight="w", chunk_cache=chunk_cache) as table:
        assert table.is_sparse
        assert table.read(3, 9).X.indices.dtype == np.int32
        stores.check_rows(table, X, [*stores.RANGES, (100, 110), (95, 105)])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i4", "|u1"])
@pytest.mark.parametrize("wanted", [None, "float32", "float64"])
def test_types_of_sparse_entries(tmp_path, dtype, wanted):
    X = stores.some_zeros(dtype)
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X), dtype=wanted) as table:
        stores.check_rows(table, X)


def test_sparse_rows_without_any_entry(tmp_path):
    X = np.zeros((20, 3))
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X)) as table:
        stores.check_rows(table, X, [(0, 20), (5, 6)])


SPARSE_FAULTS = {
    "falls": ("indptr", lambda a: a.__setitem__(300, 5), "indptr does not rise between rows"),
    "starts late": ("indptr", lambda a: a.__setitem__(0, 1), "indptr starts at 1, not at 0"),
    "ends early": ("indptr", lambda a: a.__setitem__(-1, 7), "indptr ends at 7, not at"),
    "beyond the end": ("indptr", lambda a: a.__setitem__(slice(300, 400), 10**6), "indptr does not rise"),
    "negative": ("indptr", lambda a: a.__setitem__(300, -4), "indptr does not rise"),
    "column too large": (
        "indices",
        lambda a: a.__setitem__(500, 6),
        r"indices names a column outside 0\.\.5",
    ),
    "column negative": (
        "indices",
        lambda a: a.__setitem__(500, -1),
        r"indices names a column outside 0\.\.5",
    ),
}


@pytest.mark.parametrize("name", SPARSE_FAULTS)
@pytest.mark.parametrize("index", ["<i4", "<i8"])
def test_sparse_arrays_that_contradict(tmp_path, name, index):
    part, change, sentence = SPARSE_FAULTS[name]
    path = stores.put_sparse(tmp_path / "rows.h5", stores.some_zeros(), index)
    with h5py.File(path, "r+") as file:
        values = file["X"][part][()]
        change(values)
        file["X"][part][...] = values
    with pytest.raises(DataError, match=rf"rows\.h5: X/{sentence}"), stores.opened(path) as table:
        for start in range(0, ROWS, 100):
            table.read(start, start + 100)


def test_entries_beyond_32_bits_are_seen(tmp_path):
    path = stores.put_sparse(tmp_path / "rows.h5", stores.some_zeros(), "<i8")
    with h5py.File(path, "r+") as file:
        file["X/indices"][500] += 1 << 32
    with stores.opened(path) as table, pytest.raises(DataError, match="names a column outside"):
        table.read(0, ROWS)


def test_rows_of_sparse_views_are_scipys(tmp_path):
    X = stores.some_zeros()
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X)) as table:
        rows = table.read(10, 200).X
        rows.check_format(full_check=True)
        assert (rows @ np.ones(6) == X[10:200].sum(axis=1)).all()
        assert sparse.vstack([rows, table.read(200, 210).X]).shape == (200, 6)
