"""What reading costs: bytes, opens and messages."""

from __future__ import annotations

import os
from functools import partial

import h5py
import numpy as np
import pytest
import small
import stores

from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.errors import DataError
from hpcml.io.read import hdf5 as hdf5_module
from hpcml.io.read import opened as opened_module
from hpcml.io.read import table as table_module
from hpcml.io.read.rows import Buffers

ROWS = small.N_ROWS


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


BY_HDF5 = ["fletcher32", "bitshuffle", "gzip fletcher32", "blosc2"]


@pytest.fixture
def opens(monkeypatch):
    """The path of every open, by HDF5 and by us."""
    paths = []
    real = os.open

    def noted(path, *args, **keywords):
        if str(path).endswith(".h5"):
            paths.append(str(path))
        return real(path, *args, **keywords)

    monkeypatch.setattr(os, "open", noted)
    for module in (hdf5_module, opened_module):
        call = module.open_file
        monkeypatch.setattr(
            module, "open_file", lambda path, call=call: (paths.append(str(path)), call(path))[1]
        )
    return paths


def read_in_parts(table):
    held = Buffers()
    for start in range(0, table.n_samples, 70):
        table.read(start, min(start + 70, table.n_samples), held)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("form", ["contiguous", "gzip", *BY_HDF5])
def test_a_file_is_opened_once_a_rank(tmp_path, opens, form, size):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])

    def work(comm):
        with stores.opened(path, weight="w", comm=comm) as table:
            read_in_parts(table)
            stores.check_rows(table, stores.matrix())
            table.check()
            return table.traffic.opens

    assert run_threads(size, work) == [1] * size
    assert opens == [str(path)] * size
    assert not stores.open_below(tmp_path)


def test_a_compact_data_set_beside_flat_ones(tmp_path, opens):
    path = stores.put_compact(tmp_path / "rows.h5", stores.matrix("<f4", n=100))
    with stores.opened(path, weight="w") as table:
        read_in_parts(table)
        assert (table.traffic.opens, opens) == (1, [str(path)])
    assert not stores.open_below(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_several_files_are_opened_once_each(three, opens, size):
    paths, X = three
    stores.put(paths[1], X[100:107], **stores.STORED["fletcher32"] | {"chunks": (7, 6)})
    opens.clear()

    def work(comm):
        with stores.opened(*paths, weight="w", comm=comm) as table:
            read_in_parts(table)
            return table.traffic.opens

    assert run_threads(size, work) == [3] * size
    assert sorted(opens) == sorted(str(path) for path in paths * size)
    assert not stores.open_below(paths[0].parent)


@pytest.mark.parametrize("size", [1, 2])
def test_without_the_codecs_too(tmp_path, opens, monkeypatch, size):
    monkeypatch.setattr("hpcml.io.read.decode.find_spec", lambda name: None)
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED["gzip"])

    def work(comm):
        with stores.opened(path, weight="w", comm=comm) as table:
            stores.check_rows(table, stores.matrix())

    run_threads(size, work)
    assert opens == [str(path)] * size


def test_more_files_than_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "_MOST_KEPT", 2)
    X = stores.matrix(n=30)
    options = stores.STORED["fletcher32"] | {"chunks": (3, 6)}
    paths = [stores.put(tmp_path / f"{i}.h5", X[3 * i : 3 * i + 3], **options) for i in range(10)]
    with stores.opened(*paths) as table:
        assert not stores.open_below(tmp_path)
        np.testing.assert_array_equal(table.read(0, 30).X, X)
        assert table.traffic.opens == 10
    assert not stores.open_below(tmp_path)


@pytest.mark.parametrize("form", BY_HDF5[:2])
def test_a_file_that_is_refused_is_closed(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    for bad in ({"x": "nothing"}, {"y": "X"}):
        with pytest.raises(DataError):
            stores.opened(path, **bad)
        with pytest.raises(DataError):
            stores.opened(path, path, tmp_path / "missing.h5")
        assert not stores.open_below(tmp_path)


# Cores


@pytest.fixture
def asked(monkeypatch):
    """How often a rank asked for its share of the cores; it is told 3."""
    calls = []
    monkeypatch.setattr(table_module, "cores_of_this_process", lambda comm: calls.append(comm.rank) or 3)
    return calls


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip", "blosc lz4"])
def test_cores_are_asked_for_where_chunks_have_filters(tmp_path, asked, form, size):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])

    def work(comm):
        with stores.opened(path, weight="w", comm=comm, threads=0) as table:
            stores.check_rows(table, stores.matrix())
            return table.access.threads

    is_coded = form in ("gzip", "blosc lz4")
    assert run_threads(size, work) == [3 if is_coded else 1] * size
    assert sorted(asked) == (list(range(size)) if is_coded else [])


def test_filters_of_a_column_count_too(tmp_path, asked):
    path = stores.put(tmp_path / "rows.h5", stores.matrix())
    with h5py.File(path, "r+") as file:
        w = file.pop("w")[()]
        file.create_dataset("w", data=w, chunks=(48,), compression="gzip")
    for weight, threads in ((None, 1), ("w", 3)):
        with stores.opened(path, weight=weight, threads=0) as table:
            assert table.access.threads == threads
            stores.check_rows(table, stores.matrix())


def test_messages_for_the_cores(tmp_path):
    plain, coded = (
        stores.put(tmp_path / f"{form}.h5", stores.matrix(), **stores.STORED[form])
        for form in ("contiguous", "gzip")
    )

    def calls(path, threads, comm):
        counting = CountingCommunicator(comm)
        stores.opened(path, comm=counting, threads=threads).close()
        return dict(counting.calls)

    cases = ((plain, 0), (plain, 1), (coded, 1), (coded, 0))
    counts = [run_threads(2, partial(calls, *case)) for case in cases]
    assert counts[0] == counts[1] == counts[2] != counts[3]
