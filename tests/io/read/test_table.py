"""Any rows of any files: what h5py gives, read once each, from the file that was looked at."""

from __future__ import annotations

import os
import re
from itertools import pairwise

import h5py
import numpy as np
import pytest
import small
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.errors import DataError
from hpcml.io.read import decode
from hpcml.io.read.rows import Buffers
from hpcml.io.read.table import HDF5Table

ROWS = small.N_ROWS
RANGES = [(0, ROWS), (0, 1), (47, 49), (100, 400), (599, 600), (300, 300)]


def check_rows(table, X, ranges=RANGES, index=None):
    """Compare ranges of rows with those of an array, from buffers and without."""
    columns = [(np.arange(len(X)) % 3 == 0) * 1.0, 0.5 + np.arange(len(X)) / len(X)]
    held = Buffers()
    for start, stop in ranges:
        for buffers in (None, held):
            rows = table.read(start, stop, buffers)
            assert rows.X.dtype == table.dtype
            assert rows.X.shape == (stop - start, X.shape[1])
            np.testing.assert_array_equal(stores.dense(rows.X), X[start:stop].astype(table.dtype))
            for found, wanted in zip(rows[1:], columns, strict=True):
                if found is not None:
                    assert found.dtype == np.float64
                    np.testing.assert_array_equal(found, wanted[start:stop])


@pytest.mark.parametrize("form", stores.STORED)
def test_every_way_to_store_rows(tmp_path, form):
    X = stores.matrix()
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    with stores.opened(path, weight="w") as table:
        assert (table.n_samples, table.n_features, table.is_sparse, table.labels) == (*X.shape, False, None)
        check_rows(table, X)


@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip 2-D", "gzip fletcher32"])
@pytest.mark.parametrize("dtype", stores.DTYPES)
def test_every_type(tmp_path, form, dtype):
    X = stores.matrix(dtype)
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    for wanted in (None, "float32", "float64"):
        with stores.opened(path, dtype=wanted) as table:
            assert table.dtype == np.dtype(wanted or {"<f4": "f4", ">f4": "f4"}.get(dtype, "f8"))
            check_rows(table, X)


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
            check_rows(table, X)


def test_a_data_set_in_its_header(tmp_path):
    X = stores.matrix("<f4", n=100)
    with stores.opened(stores.put_compact(tmp_path / "rows.h5", X)) as table:
        assert table.layout.columns["X"][0].arrays[0].offset is None
        check_rows(table, X, [(0, 100), (7, 9), (99, 100)])


def test_without_the_codecs_hdf5_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    X = stores.matrix()
    for form in ("gzip shuffle", "lzf", "blosc lz4", "zstd", "row chunks"):
        path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
        with stores.opened(path, weight="w") as table:
            check_rows(table, X)


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
        check_rows(table, X)


CSR = {
    "contiguous": {},
    "gzip": {"chunks": (100,), "compression": "gzip", "shuffle": True},  # a row of two chunks, and reads
    "chunks": {"chunks": (64,)},
    "one chunk": {"chunks": (10_000,), "maxshape": (None,)},
    "fletcher32": {"chunks": (100,), "fletcher32": True},
    "lzf": {"chunks": (7,), "compression": "lzf"},
}


def some_zeros(dtype="<f8"):
    X = stores.matrix(dtype)
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0
    X[100:110] = 0  # rows without entries
    X[-1] = 0
    return X


@pytest.mark.parametrize("form", CSR)
@pytest.mark.parametrize("index", ["<i4", "<i8", ">i4", "<u2", "<u8"])
@pytest.mark.parametrize("chunk_cache", [0, 64 << 20])
def test_sparse_rows(tmp_path, form, index, chunk_cache):
    X = some_zeros()
    path = stores.put_sparse(tmp_path / "rows.h5", X, index, **CSR[form])
    with stores.opened(path, weight="w", chunk_cache=chunk_cache) as table:
        assert table.is_sparse
        assert table.read(3, 9).X.indices.dtype == np.int32
        check_rows(table, X, [*RANGES, (100, 110), (95, 105)])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i4", "|u1"])
@pytest.mark.parametrize("wanted", [None, "float32", "float64"])
def test_types_of_sparse_entries(tmp_path, dtype, wanted):
    X = some_zeros(dtype)
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X), dtype=wanted) as table:
        check_rows(table, X)


def test_sparse_rows_without_any_entry(tmp_path):
    X = np.zeros((20, 3))
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X)) as table:
        check_rows(table, X, [(0, 20), (5, 6)])


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
    path = stores.put_sparse(tmp_path / "rows.h5", some_zeros(), index)
    with h5py.File(path, "r+") as file:
        values = file["X"][part][()]
        change(values)
        file["X"][part][...] = values
    with pytest.raises(DataError, match=rf"rows\.h5: X/{sentence}"), stores.opened(path) as table:
        for start in range(0, ROWS, 100):
            table.read(start, start + 100)


def test_entries_beyond_32_bits_are_seen(tmp_path):
    path = stores.put_sparse(tmp_path / "rows.h5", some_zeros(), "<i8")
    with h5py.File(path, "r+") as file:
        file["X/indices"][500] += 1 << 32
    with stores.opened(path) as table, pytest.raises(DataError, match="names a column outside"):
        table.read(0, ROWS)


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
        check_rows(table, whole, ranges)


# Lists of files, virtual data sets, links


@pytest.fixture
def three(tmp_path):
    """Three files of other lengths, types and ways to store, and their rows one after another."""
    parts = [
        stores.matrix("<i2", n=100),
        stores.matrix("<f4", n=7, seed=1),
        stores.matrix("<f8", n=250, seed=2),
    ]
    options = [{}, {}, {"chunks": (32, 6), "compression": "gzip"}]
    paths = [
        stores.put(tmp_path / f"part{i}.h5", part, **keys)
        for i, (part, keys) in enumerate(zip(parts, options, strict=True))
    ]
    return paths, np.concatenate(parts)


def columns_of(paths):
    return [np.concatenate([stores.sliced(path, name, 0, None) for path in paths]) for name in ("y", "w")]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_files_one_after_another(three, size):
    paths, X = three

    def work(comm):
        with stores.opened(*paths, weight="w", comm=comm) as table:
            assert (table.n_samples, table.dtype, table.feature_names) == (len(X), np.float64, None)
            y, w = columns_of(paths)
            for start, stop in ((0, len(X)), (99, 101), (100, 107), (106, 200), (50, 50)):
                rows = table.read(start, stop)
                np.testing.assert_array_equal(rows.X, X[start:stop])
                np.testing.assert_array_equal(rows.y, y[start:stop])
                np.testing.assert_array_equal(rows.weight, w[start:stop])
            return table.traffic.opens, table.source

    found = run_threads(size, work)
    assert {source for _, source in found} == {found[0][1]}
    assert [opens for opens, _ in found] == [3] * size  # the one that was looked at is not opened again


def test_sparse_files_one_after_another(tmp_path):
    X = some_zeros("<f4")
    cuts = [(0, 100), (100, 110), (110, 600)]
    paths = [
        stores.put_sparse(tmp_path / f"part{i}.h5", X[a:b].astype(kind), index)
        for i, ((a, b), kind, index) in enumerate(
            zip(cuts, ["<f4", "<i2", ">f4"], ["<i4", "<i8", "<i4"], strict=True)
        )
    ]
    with stores.opened(*paths) as table:
        assert table.is_sparse
        assert table.dtype == np.float32
        for start, stop in ((0, 600), (99, 101), (105, 111), (110, 110), (400, 600)):
            np.testing.assert_array_equal(table.read(start, stop).X.toarray(), X[start:stop])


def _classes(path):
    with h5py.File(path, "r+") as file:
        file.attrs["classes"] = ["no", "yes"]


MISFITS = {
    "columns": (lambda path: stores.put(path, stores.matrix(d=5)), r"other columns \(5\) than {first} \(6\)"),
    "form": (
        lambda path: stores.put_sparse(path, stores.matrix()),
        r"other form \(CSR\) than {first} \(dense\)",
    ),
    "labels": (
        lambda path: _classes(stores.put(path, stores.matrix())),
        r"other label texts \(\['no', 'yes'\]\) than {first} \(None\)",
    ),
    "no y": (lambda path: stores.put(path, stores.matrix(), name="Z"), "there is no dataset 'X'"),
    "missing": (lambda path: None, "there is no such file"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_files_that_do_not_fit_together(tmp_path, name, size):
    make, sentence = MISFITS[name]
    first = stores.put(tmp_path / "first.h5", stores.matrix())
    bad = tmp_path / "bad.h5"
    make(bad)

    def work(comm):
        with pytest.raises(DataError) as caught:
            stores.opened(first, first, bad, comm=comm)
        return str(caught.value), caught.value.on_all_ranks

    found = run_threads(size, work)
    assert found == [(found[0][0], True)] * size
    assert found[0][0].startswith(str(bad))
    assert re.search(sentence.format(first=re.escape(str(first))), found[0][0])


def test_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcml.io.read.opened.resource.getrlimit", lambda _: (32, 32))
    X = stores.matrix(n=300)
    paths = [stores.put(tmp_path / f"{i:03}.h5", X[3 * i : 3 * i + 3]) for i in range(100)]
    with stores.opened(*paths) as table:
        for _ in range(2):
            np.testing.assert_array_equal(table.read(0, 300).X, X)
        table.check()
        assert len(stores.open_below(tmp_path)) == 8
    assert not stores.open_below(tmp_path)


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_refused_leaves_no_file_open(tmp_path, size):
    good = stores.put(tmp_path / "good.h5", stores.matrix())

    def work(comm):
        with pytest.raises(DataError):
            stores.opened(good, good, good, good, tmp_path / "missing.h5", comm=comm)

    run_threads(size, work)
    assert not stores.open_below(tmp_path)


@pytest.fixture
def virtual(three):
    paths, X = three
    kinds = {path: stores.sliced(path, "X", 0, 1).dtype for path in paths}
    for path in paths:  # one type: HDF5 would convert, a virtual data set may not
        rows = stores.sliced(path, "X", 0, None).astype("<f8")
        chunked = kinds[path] == np.float64
        stores.put(path, rows, **({"chunks": (32, 6), "compression": "gzip"} if chunked else {}))
    whole = paths[0].with_name("whole.h5")
    layouts = {"X": h5py.VirtualLayout((len(X), 6), "<f8"), "y": h5py.VirtualLayout((len(X),), "<i1")}
    at = 0
    for path in paths:
        with h5py.File(path) as file:
            n = len(file["X"])
            for name, layout in layouts.items():
                layout[at : at + n] = h5py.VirtualSource(path.name, name, file[name].shape)[:]
            at += n
    with h5py.File(whole, "w") as file:
        for name, layout in layouts.items():
            file.create_virtual_dataset(name, layout)
    return whole, X, paths


def test_a_virtual_data_set_through_its_parts(virtual):
    whole, X, paths = virtual
    with stores.opened(whole) as table:
        y, _ = columns_of(paths)
        for start, stop in ((0, len(X)), (99, 108), (100, 107), (200, 357)):
            rows = table.read(start, stop)
            np.testing.assert_array_equal(rows.X, X[start:stop])
            np.testing.assert_array_equal(rows.y, y[start:stop])
        assert [file.path.name for file in table.layout.files] == [
            "whole.h5",
            "part0.h5",
            "part1.h5",
            "part2.h5",
        ]
        table.check()


def test_sources_of_a_virtual_data_set_are_watched(virtual):
    whole, X, paths = virtual
    with stores.opened(whole) as table:
        table.read(0, len(X))
        os.utime(paths[1], ns=(1, 1))
        with pytest.raises(DataError, match=r"part1\.h5: changed while it was read"):
            table.check()
    paths[2].unlink()
    with pytest.raises(DataError, match=r"whole\.h5: the virtual data set 'X' lacks its source"):
        stores.opened(whole)


def test_a_source_that_is_replaced_after_the_look(virtual):
    whole, X, paths = virtual
    with stores.opened(whole) as table:
        np.testing.assert_array_equal(table.read(0, 10).X, X[:10])
        other = stores.put(paths[1].with_name("other.h5"), stores.matrix(n=7))
        os.replace(other, paths[1])
        with pytest.raises(DataError, match=r"part1\.h5: was replaced or changed since its layout was read"):
            table.read(100, 107)


def test_external_links_only_where_allowed(tmp_path):
    X = stores.matrix()
    stores.put(tmp_path / "there.h5", X, **stores.STORED["gzip"])
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("there.h5", "X")
        stores.put_columns(file, ROWS)
    with pytest.raises(
        DataError, match=r"'X' is an external link to 'X' in the file 'there\.h5'; set data.allow"
    ):
        stores.opened(path)
    with stores.opened(path, weight="w", allow_external=True) as table:
        check_rows(table, X)
        assert [file.path.name for file in table.layout.files] == ["rows.h5", "there.h5"]
        os.utime(tmp_path / "there.h5", ns=(1, 1))
        with pytest.raises(DataError, match=r"there\.h5: changed while it was read"):
            table.check()


def test_external_bytes_only_where_allowed(tmp_path):
    X = stores.matrix()
    X.tofile(tmp_path / "raw")
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", X.shape, X.dtype, external=[(str(tmp_path / "raw"), 0, X.nbytes)])
        stores.put_columns(file, ROWS)
    with pytest.raises(DataError, match="the bytes of 'X' lie in the file"):
        stores.opened(path)
    with stores.opened(path, weight="w", allow_external=True) as table:
        check_rows(table, X)


# What it costs


@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip shuffle", "blosc lz4", "2-D chunks"])
def test_bytes_of_a_pass_are_those_stored(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    with h5py.File(path, locking=False) as file:
        stored = sum(file[name].id.get_storage_size() for name in ("X", "y", "w"))
    whole = -(-ROWS // 48) * 48
    with stores.opened(path, weight="w") as table:
        for n_pass in (1, 2, 3):
            held = Buffers()
            for start in range(0, ROWS, 70):  # no multiple of a chunk
                table.read(start, min(start + 70, ROWS), held)
            unread = (whole - ROWS) * 6 * 8 if form == "row chunks" else 0  # behind the last row
            assert table.traffic.bytes_read == n_pass * (stored - unread)
        assert (table.traffic.opens, table.traffic.retries) == (1, 0)


def test_messages_do_not_grow_with_the_files(three):
    paths, _ = three

    def work(comm, n):
        counting = CountingCommunicator(comm)
        stores.opened(*paths * n, comm=counting).close()
        return dict(counting.calls)

    assert run_threads(2, lambda comm: work(comm, 1)) == run_threads(2, lambda comm: work(comm, 7))


def test_a_table_is_for_everyone_what_it_is_for_one(three):
    paths, _ = three

    def work(comm):
        with stores.opened(*paths, comm=comm) as table:
            assert isinstance(table, HDF5Table)
            return table.layout.to_json() | {"files": None}, table.path

    assert run_threads(3, work) == [run_threads(1, work)[0]] * 3


def test_rows_of_sparse_views_are_scipys(tmp_path):
    X = some_zeros()
    with stores.opened(stores.put_sparse(tmp_path / "rows.h5", X)) as table:
        rows = table.read(10, 200).X
        rows.check_format(full_check=True)
        assert (rows @ np.ones(6) == X[10:200].sum(axis=1)).all()
        assert sparse.vstack([rows, table.read(200, 210).X]).shape == (200, 6)
