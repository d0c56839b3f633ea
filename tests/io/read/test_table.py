"""Any rows of a file, stored in any way: what h5py gives."""

from __future__ import annotations

from itertools import pairwise

import h5py
import numpy as np
import pytest
import small
import stores
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.io.read import decode

ROWS = small.N_ROWS


@pytest.mark.parametrize("form", stores.STORED)
def test_every_way_to_store_rows(tmp_path, form):
    X = stores.matrix()
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    with stores.opened(path, weight="w") as table:
        assert (table.n_samples, table.n_features, table.is_sparse, table.labels) == (*X.shape, False, None)
        stores.check_rows(table, X)


@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip 2-D", "gzip fletcher32"])
@pytest.mark.parametrize("dtype", stores.DTYPES)
def test_every_type(tmp_path, form, dtype):
    X = stores.matrix(dtype)
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    for wanted in (None, "float32", "float64"):
        with stores.opened(path, dtype=wanted) as table:
            assert table.dtype == np.dtype(wanted or {"<f4": "f4", ">f4": "f4"}.get(dtype, "f8"))
            stores.check_rows(table, X)


@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip"])
def test_types_that_numpy_has_otherwise_are_converted(tmp_path, form):
    path = tmp_path / "rows.h5"
    halves = h5py.h5t.IEEE_F32LE.copy()  # bfloat16: two bytes, of which numpy makes four
    halves.set_fields(15, 7, 8, 0, 7)
    halves.set_size(2)
    halves.set_ebias(127)
    twelve = h5py.h5t.STD_I16LE.copy()  # twelve bits, four from the right
    twelve.set_precision(12)
    twelve.set_offset(4)
    X = stores.matrix("<i2")
    for kind in (halves, twelve):
        with h5py.File(path, "w") as file:
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            if form != "contiguous":
                plist.set_chunk(stores.ROW_CHUNKS)
            if form == "gzip":
                plist.set_deflate(1)
            item = h5py.Dataset(h5py.h5d.create(file.id, b"X", kind, h5py.h5s.create_simple(X.shape), plist))
            item[...] = X
            stores.put_columns(file, ROWS)
            whole = item[()]
        np.testing.assert_array_equal(whole, X)
        with stores.opened(path) as table:
            stores.check_rows(table, X)


def test_a_data_set_in_its_header(tmp_path):
    X = stores.matrix("<f4", n=100)
    with stores.opened(stores.put_compact(tmp_path / "rows.h5", X)) as table:
        assert table.layout.columns["X"][0].arrays[0].offset is None
        stores.check_rows(table, X, [(0, 100), (7, 9), (99, 100)])


def test_without_the_codecs_hdf5_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    X = stores.matrix()
    for form in ("gzip shuffle", "lzf", "blosc lz4", "zstd", "row chunks"):
        path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
        with stores.opened(path, weight="w") as table:
            stores.check_rows(table, X)


@pytest.mark.parametrize("mask", [1, 2, 3])
def test_a_chunk_that_went_without_its_filters(tmp_path, mask):
    X = stores.matrix()
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED["gzip shuffle"])
    with h5py.File(path, "r+") as file:
        with h5py.File("other", "w", driver="core", backing_store=False) as other:
            options = [{"shuffle": True}, {"compression": "gzip"}, {}][mask - 1 ^ 1 if mask < 3 else 2]
            made = other.create_dataset("X", data=X[48:96], chunks=stores.ROW_CHUNKS, **options)
            _, raw = made.id.read_direct_chunk((0, 0))
        file["X"].id.write_direct_chunk((48, 0), raw, mask)
    np.testing.assert_array_equal(stores.sliced(path, "X", 0, ROWS), X)
    with stores.opened(path) as table:
        stores.check_rows(table, X)


@settings(max_examples=60)
@given(
    n=st.integers(1, 60),
    d=st.integers(1, 5),
    chunks=st.one_of(st.none(), st.tuples(st.integers(1, 70), st.integers(1, 6))),
    compression=st.sampled_from([None, "gzip", "lzf"]),
    dtype=st.sampled_from(["<f8", ">f4", "<i2", "|b1"]),
    is_sparse=st.booleans(),
    chunk_cache=st.sampled_from([0, 300, 1 << 20]),
    threads=st.sampled_from([1, 3]),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_any_cut_of_any_chunks(
    tmp_path_factory, n, d, chunks, compression, dtype, is_sparse, chunk_cache, threads, cuts
):
    path = tmp_path_factory.getbasetemp() / "any.h5"
    X = stores.matrix(dtype, n, d)
    options = {} if chunks is None else {"compression": compression, "shuffle": compression is not None}
    if is_sparse:
        if chunks is not None:
            options |= {"chunks": chunks[:1], "maxshape": (None,)}
        stores.put_sparse(path, X, **options)
    else:
        if chunks is not None:
            options |= {"chunks": chunks, "maxshape": (None, None)}
        stores.put(path, X, **options)
    with h5py.File(path, locking=False) as file:
        whole = X if is_sparse else file["X"][()]
    borders = sorted({0, n, *(min(cut, n) for cut in cuts)})
    ranges = [*pairwise(borders), (0, n), (n // 2, n)]
    with stores.opened(path, weight="w", chunk_cache=chunk_cache, threads=threads) as table:
        stores.check_rows(table, whole, ranges)
