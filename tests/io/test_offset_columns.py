"""Offsets and exposures of stored rows: beside every row on any number of ranks, wherever rows are kept."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import small
import staged
import stores

from hpcml.collectives import run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError, SpecError
from hpcml.io.dataset import HDF5Dataset, Layout, open_hdf5
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table
from hpcml.io.scratch.staging import stage_shards

SHARD = 64 * small.N_COLUMNS * 8
NAMES = {"offset": Columns("X", "y", None, "o"), "exposure": Columns("S", "y", "w", exposure="e")}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = small.make_rows(tmp_path_factory.mktemp("offsets") / "rows.h5")
    with h5py.File(path, "r+") as file:
        exposure = np.random.default_rng(4).uniform(0.1, 9.0, small.N_ROWS)
        file.create_dataset("e", data=exposure, chunks=(100,), compression="gzip")
        file["o"] = np.log(exposure).astype(np.float32)[:, None]
    return path


def expected(path, names):
    with h5py.File(path) as file:
        return np.log(file["e"][()]) if names.exposure else file["o"][:, 0].astype(float)


def cut(cache):
    return Layout(cache, block_rows=64, shard_bytes=SHARD, prefetch=1)


def gathered(data):
    parts = [(block.index, block.offset.copy()) for block in data.blocks()]
    empty = (np.zeros(0, np.int64), np.zeros(0))
    return [np.concatenate(column) for column in zip(empty, *parts, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("selection", [None, RowSelection(3, 20, 580, 0.8)], ids=["all", "some"])
@pytest.mark.parametrize("where", ["memory", "none", "scratch"])
def test_every_row_has_its_own(rows, tmp_path, where, selection, names, size):
    def program(comm):
        table = open_table(comm, [rows], names)
        layout = cut("memory" if where == "memory" else "none")
        reader = table
        if where == "scratch":
            with staged.scratch_at(tmp_path, comm) as scratch:
                reader = stage_shards(comm, scratch, table, layout.cut(table, comm), staged.quiet)
        with table, HDF5Dataset(reader, comm=comm, selection=selection, layout=layout) as data:
            first, again = gathered(data), gathered(data)
            assert first[1].tobytes() == again[1].tobytes()
            return first

    parts = run_threads(size, program)
    index, offset = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = np.arange(small.N_ROWS)
    kept = kept if selection is None else np.flatnonzero(selection.keeps(kept))
    np.testing.assert_array_equal(index, kept)
    np.testing.assert_array_equal(offset, expected(rows, names)[kept])


def test_a_data_set_for_estimators(rows):
    with open_hdf5(rows, exposure="e") as data:
        (block,) = data.blocks()
        np.testing.assert_array_equal(block.offset, expected(rows, NAMES["exposure"]))
    with open_hdf5(rows, offset="o") as data:
        (block,) = data.blocks(0)
        np.testing.assert_array_equal(block.offset, expected(rows, NAMES["offset"]))
    with open_hdf5(rows) as data:
        (block,) = data.blocks()
        assert block.offset is None
    with pytest.raises(SpecError, match="offset and exposure exclude each other"):
        open_hdf5(rows, offset="o", exposure="e")


def test_files_of_which_one_lacks_exposures(rows, tmp_path):
    with small.changed(rows, tmp_path / "less.h5") as file:
        del file["e"]

    def program(comm):
        with pytest.raises(DataError, match=r"less\.h5: there is no dataset 'e'"):
            open_table(comm, [rows, tmp_path / "less.h5"], NAMES["exposure"])

    run_threads(3, program, timeout=30)


def test_a_column_of_another_length(rows):
    with pytest.raises(DataError, match="it must be one column of as many numbers"):
        open_table(stores.SERIAL, [rows], Columns("X", "y", None, "X"))
