"""A flipped bit, a changed or replaced file: an error that names it, however rows are read."""

from __future__ import annotations

import os
import shutil

import h5py
import indexed
import numpy as np
import pytest
import small

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.errors import DataError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.index import side_file as index_module
from hpcml.io.index.side_file import index_path
from hpcml.io.index.verify import index_notes
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table

SERIAL = SerialCommunicator()
SIZES = [1, 2, 3, 5]
ARRAYS = {
    "X": ("X", 5000, "rows 4096 to 8192 of 'X'"),
    "chunked": ("chunked", 5000, "rows 5000 to 5500 of 'chunked'"),
    "gzip": ("gzip", 5000, "rows 5000 to 5500 of "),
    "S data": ("S/data", 12000, "entries [0-9]+ to [0-9]+ of 'S/data'"),
    "S indptr": ("S/indptr", 4500, "rows 4096 to 8192 of 'S/indptr'"),
    "y": ("y", 8999, "rows 8192 to 9000 of 'y'"),
    "w": ("w", 0, "rows 0 to 4096 of 'w'"),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file, and beside it an index of all its rows."""
    path = indexed.put(tmp_path_factory.mktemp("indexed") / "data.h5")
    for x in ("S", "X", "chunked", "gzip"):
        indexed.index(path, Columns(x, "y", "w"))
    return path


@pytest.fixture
def copy(rows, tmp_path):
    """A copy of the file and its index, with the file's time of change."""
    shutil.copy2(rows, tmp_path)
    shutil.copy2(index_path(rows), tmp_path)
    return tmp_path / rows.name


def passes(path, columns, comm, layout, *, n=1, dtype=None, **access):
    """Read all of a rank's rows n times; return grains and rows compared, over ranks."""
    with open_table(comm, [path], columns, dtype, Access(**access)) as table:
        data = HDF5Dataset(table, comm=comm, layout=layout)
        for _ in range(n):
            for _ in data.blocks():
                pass
        return table.verification and table.verification.counts()


LAYOUTS = [Layout("memory"), Layout("none"), Layout("none", prefetch=0),
           Layout("none", shard_bytes=100 * 48, block_rows=100)]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=["memory", "streamed", "no thread", "odd shards"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("x", ["X", "chunked", "gzip", "S"])
def test_every_row_is_compared_once_a_file(rows, x, size, layout):
    columns = Columns(x, "y", "w")
    counts = run_threads(size, lambda comm: passes(rows, columns, comm, layout, n=2, dtype="float32"))
    grains, compared = np.sum(counts, axis=0)
    assert compared == indexed.N
    assert grains == {"X": 3, "chunked": 18, "gzip": 18, "S": 9}[x] + 6


def test_digests_are_fetched_in_windows(rows, monkeypatch):
    monkeypatch.setattr("hpcml.io.index.verify._WINDOW", 5)
    counts = run_threads(3, lambda comm: passes(rows, Columns("gzip", "y", "w"), comm, Layout("none")))
    assert np.sum(counts, axis=0)[1] == indexed.N


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=["memory", "streamed", "no thread"])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("case", ARRAYS)
def test_a_flipped_bit(copy, case, size, layout):
    name, row, said = ARRAYS[case]
    indexed.flip(copy, name, row)
    x = {"S": "S", "y": "X", "w": "X"}.get(case.split()[0], case)
    with pytest.raises(DataError, match=said) as caught:
        run_threads(size, lambda comm: passes(copy, Columns(x, "y", "w"), comm, layout))
    assert str(copy) in str(caught.value)
    if case != "gzip":  # whose decoder may see it first
        assert "differ from the index data.h5.index: the file was changed or damaged" in str(caught.value)
    if case in ("X", "y", "w"):
        at = int(str(caught.value).split("from byte ")[1].split()[0])
        assert at <= indexed.place_of(copy, name, row)


@pytest.mark.parametrize("bit", [1, 64])
def test_a_flipped_bit_in_the_columns_of_csr(copy, bit):
    indexed.flip(copy, "S/indices", 12000, bit)
    with pytest.raises(DataError, match=r"entries .* of 'S/indices'.* differ|names a column outside"):
        run_threads(2, lambda comm: passes(copy, Columns("S", "y", "w"), comm, Layout("none")))


def test_damage_between_two_passes(copy):
    def work(comm):
        with open_table(comm, [copy], Columns("X", "y", None)) as table:
            data = HDF5Dataset(table, comm=comm, layout=Layout("none"))
            assert sum(block.n_rows for block in data.blocks()) == indexed.N
            indexed.flip(copy, "X", 8999)
            with pytest.raises(DataError, match="rows 8192 to 9000 of 'X'"):
                list(data.blocks())

    run_threads(1, work)


def test_bits_that_no_array_has_do_not_matter(copy):
    indexed.flip(copy, "tiles", 10)  # known, and not read
    run_threads(1, lambda comm: passes(copy, Columns("X", "y", "w"), comm, Layout("none")))
    with pytest.raises(DataError, match="'tiles'"):
        run_threads(1, lambda comm: passes(copy, Columns("tiles", "y", "w"), comm, Layout("none")))


def test_another_size_is_refused_by_all(copy):
    with h5py.File(copy, "r+") as file:
        file["more"] = np.zeros(1000)
    said = "data.h5.index: was made for another state of data.h5, of .* run hpcml index again, or remove"
    for size in (1, 3):
        with pytest.raises(DataError, match=said) as caught:
            run_threads(size, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))
        assert caught.value.on_all_ranks
    index_path(copy).unlink()
    run_threads(1, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_a_replaced_file_of_the_same_size(copy):
    with h5py.File(copy, "r+") as file:
        file["X"][...] = np.arange(indexed.N * indexed.WIDTH).reshape(indexed.N, -1)
    with pytest.raises(DataError, match=r"rows (0|4096) to [0-9]+ of 'X'"):
        run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_a_truncated_file(copy):
    os.truncate(copy, copy.stat().st_size - 8)
    with pytest.raises(DataError, match=r"truncated|another state"):
        run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_a_copy_with_another_time_is_compared_and_said(copy):
    os.utime(copy)
    with open_table(SERIAL, [copy], indexed.DATA) as table:
        (note,) = index_notes(table.layout)
        assert "another time of change" in note
    counts = run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))
    assert np.sum(counts, axis=0)[1] == indexed.N
    indexed.flip(copy, "X", 0)
    with pytest.raises(DataError, match="rows 0 to 4096 of 'X'"):
        run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_a_damaged_index_is_not_blamed_on_the_file(copy):
    with h5py.File(index_path(copy)) as file:
        at = file["digests/X"].id.get_offset() + 16
    with open(index_path(copy), "r+b") as side:
        side.seek(at)
        side.write(b"\0\0")
    with pytest.raises(DataError, match=r"data\.h5\.index: is damaged \(its digests of X\)"):
        run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_a_damaged_contract(copy):
    with h5py.File(index_path(copy)) as file:
        at = file["contract"].id.get_offset() + 40
    with open(index_path(copy), "r+b") as side:
        side.seek(at)
        side.write(b"\0")
    with pytest.raises(DataError, match=r"data\.h5\.index: is damaged \(contract\)"):
        run_threads(2, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_what_is_no_index(copy):
    index_path(copy).write_bytes(b"notes of mine")
    with pytest.raises(DataError, match=r"data\.h5\.index: is not an HDF5 file"):
        run_threads(1, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))
    index_path(copy).unlink()
    small.make_rows(index_path(copy))
    with pytest.raises(DataError, match=r"data\.h5\.index: is not an index of hpcml"):
        run_threads(1, lambda comm: passes(copy, indexed.DATA, comm, Layout("none")))


def test_arrays_that_the_index_does_not_know(tmp_path):
    path = indexed.put(tmp_path / "data.h5")
    indexed.index(path, Columns("X", "y", None))
    with open_table(SERIAL, [path], Columns("S", "y", "w")) as table:
        (note,) = index_notes(table.layout)
        assert "does not know 'S/data', 'S/indices', 'S/indptr'" in note
    counts = run_threads(2, lambda comm: passes(path, Columns("S", "y", "w"), comm, Layout("none")))
    assert np.sum(counts, axis=0).tolist() == [6, 0]


def test_another_format_is_said_and_not_used(tmp_path, monkeypatch):
    path = indexed.put(tmp_path / "data.h5")
    monkeypatch.setattr("hpcml.run.indexing.FORMAT", 7)
    monkeypatch.setattr(index_module, "FORMAT", 7)
    indexed.index(path)
    monkeypatch.undo()
    with open_table(SERIAL, [path], indexed.DATA) as table:
        (note,) = index_notes(table.layout)
        assert "another version" in note
    counts = run_threads(2, lambda comm: passes(path, indexed.DATA, comm, Layout("none")))
    assert np.sum(counts, axis=0).tolist() == [0, 0]


def test_rows_are_not_compared_where_that_is_not_wanted(copy):
    indexed.flip(copy, "X", 0)
    assert run_threads(1, lambda comm: passes(copy, indexed.DATA, comm, Layout("none"), verify=False)) == [
        None
    ]
