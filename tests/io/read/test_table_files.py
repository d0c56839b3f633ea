"""Rows of several files: lists, virtual data sets and links, read from the files that were looked at."""

from __future__ import annotations

import os
import re

import h5py
import numpy as np
import pytest
import small
import stores

from hpcml.collectives import run_threads
from hpcml.errors import DataError
from hpcml.io.read.table import HDF5Table

ROWS = small.N_ROWS


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
    X = stores.some_zeros("<f4")
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
        stores.check_rows(table, X)
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
        stores.check_rows(table, X)


def test_a_table_is_for_everyone_what_it_is_for_one(three):
    paths, _ = three

    def work(comm):
        with stores.opened(*paths, comm=comm) as table:
            assert isinstance(table, HDF5Table)
            return table.layout.to_json() | {"files": None}, table.path

    assert run_threads(3, work) == [run_threads(1, work)[0]] * 3
