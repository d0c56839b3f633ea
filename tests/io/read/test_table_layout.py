"""Which rows of which files make a table: joined, shared as JSON, and on which grid of chunks."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import stores

from hpcml.data import Source
from hpcml.errors import DataError
from hpcml.io.read.handle import FileIdentity
from hpcml.io.read.hdf5 import Columns, locate
from hpcml.io.read.layout import Segment, TableLayout, joined
from hpcml.io.read.opened import KnownFile
from hpcml.io.read.stored import StoredArray, stored_array


def layout_of(path, **names):
    found = locate(path, Columns(**names))
    found.close()
    return found.layout


def made(n, *, chunk_rows=None, dtype="<f8", path="a.h5", start=0, **more):
    """Return the layout of a table that no file has."""
    chunks = None if chunk_rows is None else np.zeros((-(-(start + n) // chunk_rows), 3), np.int64)
    array = StoredArray(
        "X",
        (start + n, 4),
        np.dtype(dtype),
        None if chunk_rows else 2048,
        chunk_rows and (chunk_rows, 4),
        chunks,
    )
    known = KnownFile(Path(path), FileIdentity(1, 2, 3))
    return TableLayout(n, 4, False, [known], {"X": [Segment(0, n, start, 0, (array,))]}, **more)


@pytest.mark.parametrize("form", stores.STORED)
def test_json_says_all_of_it(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(">f4"), **stores.STORED[form])
    layout = layout_of(path, weight="w")
    again = TableLayout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again.to_json() == layout.to_json()
    assert (again.files, again.n_samples, again.n_features) == (layout.files, 600, 6)
    assert again.files[0].identity.size == path.stat().st_size
    for name in ("X", "y", "weight"):
        (one,), (other,) = again.columns[name], layout.columns[name]
        assert one[:4] == other[:4]
        mine, its = one.arrays[0], other.arrays[0]
        assert (mine.shape, mine.dtype, mine.filters) == (its.shape, its.dtype, its.filters)
        assert (mine.offset, mine.chunk_shape, mine.name) == (its.offset, its.chunk_shape, its.name)
        assert (mine.chunks is None) == (its.chunks is None)
        if its.chunks is not None:
            np.testing.assert_array_equal(mine.chunks, its.chunks)


@pytest.mark.parametrize("form", ["row chunks", "2-D chunks", "gzip", "one chunk"])
def test_the_table_of_chunks(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    with h5py.File(path) as file:
        item = file["X"]
        stored = stored_array(item)
        found = {}
        for i in range(item.id.get_num_chunks()):
            info = item.id.get_chunk_info(i)
            found[info.chunk_offset] = (info.byte_offset, info.size, info.filter_mask)
        assert [found[corner] for corner in sorted(found)] == list(map(tuple, stored.chunks))


def test_chunks_that_were_not_written_have_no_place(tmp_path):
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        item = file.create_dataset("X", (10, 4), "f8", chunks=(4, 3))
        item[4:8, 3:] = 1.0
        assert [row[0] >= 0 for row in stored_array(item).chunks] == [False, False, False, True, False, False]


def test_rows_of_several_tables():
    whole = joined([made(10), made(5, path="b.h5", start=7), made(1, path="c.h5")])
    assert whole.n_samples == 16
    assert [file.path.name for file in whole.files] == ["a.h5", "b.h5", "c.h5"]
    assert [part[:4] for part in whole.columns["X"]] == [(0, 10, 0, 0), (10, 15, 7, 1), (15, 16, 0, 2)]
    assert joined([whole, whole]).columns["X"][4][:4] == (26, 31, 7, 4)


def test_the_type_that_holds_all_values():
    def of(*kinds):
        return joined([made(3, dtype=kind) for kind in kinds]).stored_dtype

    assert of(">f4", "<f4") == np.dtype("=f4")
    assert of("<f4", "<f8") == of("<i4", "<f4") == np.float64
    assert of("|b1", "|i1") == np.int8


@pytest.mark.parametrize(
    ("tables", "chunk_rows"),
    [
        ([made(10)], 1),
        ([made(10, chunk_rows=4)], 4),
        ([made(8, chunk_rows=4), made(9, chunk_rows=4)], 4),
        ([made(10, chunk_rows=4), made(9, chunk_rows=4)], 1),  # the second grid begins between
        ([made(10, chunk_rows=4), made(9)], 1),
        ([made(8, chunk_rows=4), made(8, chunk_rows=8)], 1),
        ([made(8, chunk_rows=4, start=8)], 4),
        ([made(8, chunk_rows=4, start=2)], 1),
    ],
)
def test_the_grid_of_chunks_that_shards_keep(tables, chunk_rows):
    whole = joined(tables)
    assert whole.source(8) == Source(whole.n_samples, 4, 32, chunk_rows)
    assert whole.source(4).row_bytes == 16


def test_bytes_of_sparse_rows(tmp_path):
    X = np.eye(50)
    for index in ("<i4", "<i8"):
        layout = layout_of(stores.put_sparse(tmp_path / "rows.h5", X, index))
        assert layout.source(8) == Source(50, 50, 12.0, 1)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (made(3, path="b.h5", labels=["x"]), "b.h5 has other label texts (['x']) than a.h5 (None)"),
        (
            TableLayout(3, 5, False, made(3, path="b.h5").files, made(3).columns),
            "b.h5 has other columns (5) than a.h5 (4)",
        ),
        (
            TableLayout(3, 4, True, made(3, path="b.h5").files, made(3).columns),
            "b.h5 has other form (CSR) than a.h5 (dense)",
        ),
        (
            TableLayout(3, 4, False, made(3, path="b.h5").files, {"X": [], "y": []}),
            "b.h5 has other data sets (X, y) than a.h5 (X)",
        ),
    ],
)
def test_tables_that_do_not_fit(other, said):
    with pytest.raises(DataError) as caught:
        joined([made(2), made(3), other])
    assert str(caught.value) == said
