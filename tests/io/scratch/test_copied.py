"""Rows of copies on scratch: what is wrong with them is said of the file that the user named."""

from __future__ import annotations

import os

import h5py
import indexed
import numpy as np
import pytest
import stores

from hpcml.collectives import SerialCommunicator
from hpcml.errors import DataError
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table
from hpcml.io.scratch.copied import CopiedRows

SERIAL = SerialCommunicator()


def copied(source, copy, columns):
    """Return the rows of a copy as a job reads them."""
    copy.write_bytes(source.read_bytes())
    with open_table(SERIAL, [source], columns) as table:
        return CopiedRows(open_table(SERIAL, [copy], columns, None, Access()), table.layout)


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "scratch").mkdir()
    return indexed.put(tmp_path / "data.h5"), tmp_path / "scratch" / "copy-00000-data.h5"


@pytest.mark.parametrize("x", ["X", "gzip", "S"])
def test_rows_are_those_of_the_source(pair, x):
    columns = Columns(x, "y", "w")
    rows = copied(*pair, columns)
    with open_table(SERIAL, [pair[0]], columns) as table:
        for start, stop in ((0, 9000), (100, 300), (5, 5)):
            found, wanted = rows.read(start, stop), table.read(start, stop)
            np.testing.assert_array_equal(stores.dense(found.X), stores.dense(wanted.X))
            np.testing.assert_array_equal(found.y, wanted.y)
            np.testing.assert_array_equal(found.weight, wanted.weight)
        assert (rows.n_samples, rows.n_features, rows.dtype) == (9000, 6, table.dtype)
        assert (rows.is_sparse, rows.source, rows.unit_bytes) == (x == "S", table.source, table.unit_bytes)
    assert rows.verification is None
    rows.check()
    rows.close()
    assert not stores.open_below(pair[1].parent)


def test_rows_that_differ_from_the_index_of_the_source(pair):
    source, copy = pair
    indexed.index(source)
    indexed.flip(source, "X", 5000)
    rows = copied(source, copy, indexed.DATA)
    rows.read(0, 4096)
    with pytest.raises(DataError) as caught:
        rows.read(4096, 9000)
    said = str(caught.value)
    assert said.startswith(f"{source}: rows 4096 to 8192 of 'X' (from byte ")
    assert "differ from the index data.h5.index" in said
    assert said.endswith(f"(read from its copy {copy})")
    assert rows.verification.counts()[1] == 4096
    rows.close()


def test_chunks_that_cannot_be_decoded(pair):
    source, copy = pair
    with h5py.File(source) as file:
        info = file["gzip"].id.get_chunk_info(0)
    with open(source, "r+b") as file:
        file.seek(info.byte_offset)
        file.write(bytes(info.size))
    rows = copied(source, copy, Columns("gzip", "y", None))
    with pytest.raises(DataError, match=f"^{source}: rows 0 to 500 of gzip, at offset .* cannot be decoded"):
        rows.read(0, 600)


def test_sparse_rows_that_contradict(pair):
    source, copy = pair
    with h5py.File(source, "r+") as file:
        file["S/indptr"][300] = -4
    with pytest.raises(DataError, match=f"^{source}: S/indptr does not rise between rows 0 and 600"):
        copied(source, copy, Columns("S", "y", None)).read(0, 600)


def test_a_damaged_index_is_named_itself(pair):
    source, copy = pair
    indexed.index(source)
    side = source.with_name("data.h5.index")
    with h5py.File(side) as file:
        at = file["digests/X"].id.get_offset()
    with open(side, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DataError) as caught:
        copied(source, copy, indexed.DATA).read(0, 9000)
    assert str(caught.value) == f"{side}: is damaged (its digests of X): run hpcml index again"


def test_a_copy_that_is_cut_is_seen(pair):
    source, copy = pair
    rows = copied(source, copy, indexed.DATA)
    os.truncate(copy, 9000)
    with pytest.raises(DataError, match="is truncated: it ends at byte 9000"):
        rows.read(0, 9000)
    with pytest.raises(DataError):
        rows.check()
