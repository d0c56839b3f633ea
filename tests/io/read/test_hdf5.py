"""X, y and weight of a file are found and checked by their metadata, before any row is read."""

from __future__ import annotations

import os
import re
import sys

import h5py
import harness
import numpy as np
import pytest
import small
import stores

from hpcml.errors import DataError
from hpcml.io.read.hdf5 import Columns, locate

NAMES = Columns()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return small.make_rows(tmp_path_factory.mktemp("hdf5") / "rows.h5")


def located(path, names=NAMES, **options):
    found = locate(path, names, **options)
    found.close()
    return found


def test_where_rows_lie(rows):
    layout = located(rows, Columns("chunked", "t", "w")).layout
    assert (layout.n_samples, layout.n_features, layout.is_sparse, layout.labels) == (600, 6, False, None)
    assert [file.path for file in layout.files] == [rows]
    assert {name: [part.arrays[0].name for part in parts] for name, parts in layout.columns.items()} == {
        "X": ["chunked"],
        "y": ["t"],
        "weight": ["w"],
    }
    (part,) = layout.columns["X"]
    assert (part.arrays[0].chunk_shape, [number for number, _ in part.arrays[0].filters]) == ((48, 6), [2, 1])
    sparse = located(rows, Columns("S", None)).layout
    assert sparse.is_sparse
    assert [array.name for array in sparse.columns["X"][0].arrays] == ["S/data", "S/indices", "S/indptr"]


def test_the_descriptor_is_of_the_file(rows):
    found = locate(rows, Columns())
    assert os.fstat(found.descriptor).st_ino == rows.stat().st_ino
    found.close()


def test_labels_in_a_column_vector_and_texts(rows, tmp_path):
    path = tmp_path / "data.h5"
    with small.changed(rows, path) as file:
        y = file["y"][()]
        del file["y"]
        file["y"] = y[:, None]
        file.attrs["classes"] = ["late", "early"]
        file["feature_names"] = [f"c{i}" for i in range(6)]
    found = located(path)
    assert (found.layout.labels, found.feature_names) == (["late", "early"], [f"c{i}" for i in range(6)])
    with stores.opened(path) as table:
        np.testing.assert_array_equal(table.read(10, 20).y, y[10:20])
        assert table.read(0, 1).weight is None
        assert table.feature_names == found.feature_names


@pytest.mark.parametrize(
    "value",
    [["a", "b"], np.arange(6), [["a"] * 6], h5py.ExternalLink("rows.h5", "y"), h5py.SoftLink("/y"), "a"],
    ids=["too few", "numbers", "2-D", "external link", "soft link", "one text"],
)
def test_names_of_columns_that_are_none(rows, tmp_path, value):
    with small.changed(rows, tmp_path / "data.h5") as file:
        file["feature_names"] = value
    assert located(tmp_path / "data.h5").feature_names is None


def _put(name, value):
    def change(file):
        if name in file:
            del file[name]
        file[name] = value

    return change


def _unwritten(name, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, (600, 6) if name == "X" else (600,), "f8", **options)

    return change


def _partly(file):
    del file["X"]
    item = file.create_dataset("X", (600, 6), "f8", chunks=(100, 6))
    item[:200] = 1.0
    item[300:] = 1.0


def _virtual_sparse(file):
    n = file["S/data"].shape[0]
    layout = h5py.VirtualLayout((n,), "<f8")
    layout[:] = h5py.VirtualSource(".", "entries", (n,))[:]
    file["entries"] = file["S/data"][()]
    del file["S/data"]
    file["S"].create_virtual_dataset("data", layout)


STRINGS = np.array(["a"] * 600, h5py.string_dtype())
CSR = Columns("S")
REFUSED = {
    "1-D X": (_put("X", np.zeros(600)), "'X' has shape (600,); X needs rows and columns", Columns()),
    "2-D y": (_put("y", np.zeros((600, 2))), "'X' has 600 rows and 'y' has shape (600, 2)", Columns()),
    "short y": (_put("y", np.zeros(599)), "'X' has 600 rows and 'y' has shape (599,)", Columns()),
    "short weight": (_put("w", np.zeros(2)), "'X' has 600 rows and 'w' has shape (2,)", Columns(weight="w")),
    "texts in X": (_put("X", STRINGS[:, None]), "'X' is not numeric", Columns()),
    "texts in y": (_put("y", STRINGS), "'y' is not numeric (its type is object)", Columns()),
    "bytes in y": (_put("y", np.array([b"a"] * 600)), "'y' is not numeric (its type is |S1)", Columns()),
    "complex": (_put("X", np.zeros((600, 2), complex)), "'X' is not numeric", Columns()),
    "records": (_put("X", np.zeros((600, 2), [("a", "f8")])), "'X' is not numeric", Columns()),
    "no shape": (_put("X", h5py.Empty("f8")), "'X' is empty: it has a type and no shape", Columns()),
    "no rows": (
        lambda file: (_put("X", np.zeros((0, 6)))(file), _put("y", np.zeros(0))(file)),
        "'X' has 0 rows and 6 columns",
        Columns(),
    ),
    "a group as y": (lambda file: None, "'S' is a group, not a dataset", Columns(y="S")),
    "missing": (lambda file: None, "there is no dataset 'Z'; the file has S, ", Columns("Z")),
    "X never written": (_unwritten("X"), "'X' was created and never written", Columns()),
    "y never written": (_unwritten("y"), "'y' was created and never written", Columns()),
    "chunks never written": (
        _unwritten("X", chunks=(100, 6), compression="gzip"),
        "'X' is incomplete: 6 of its 6 chunks were never written, the first at row 0",
        Columns(),
    ),
    "some chunks": (_partly, "1 of its 6 chunks were never written, the first at row 200", Columns()),
    "no indices": (
        lambda file: file.__delitem__("S/indices"),
        "the group 'S' is not in CSR form: it lacks indices",
        CSR,
    ),
    "no shape of S": (
        lambda file: file["S"].attrs.__delitem__("shape"),
        "is not in CSR form: it lacks the attribute 'shape'",
        CSR,
    ),
    "shape of three": (
        lambda file: file["S"].attrs.__setitem__("shape", (1, 2, 3)),
        "the attribute 'shape' of 'S' is not two numbers",
        CSR,
    ),
    "shape of floats": (
        lambda file: file["S"].attrs.__setitem__("shape", (600.0, 6.0)),
        "the attribute 'shape' of 'S' is not two numbers",
        CSR,
    ),
    "another shape": (
        lambda file: file["S"].attrs.__setitem__("shape", (601, 6)),
        "the CSR arrays of 'S' do not fit the shape of 601 rows",
        CSR,
    ),
    "fewer indices": (
        lambda file: _put("S/indices", file["S/indices"][:-1])(file),
        "the CSR arrays of 'S' do not fit the shape of 600 rows",
        CSR,
    ),
    "indices of floats": (
        lambda file: _put("S/indices", file["S/indices"][()] * 1.0)(file),
        "'S/indices' must hold integers",
        CSR,
    ),
    "entries of texts": (
        lambda file: _put("S/data", np.array([b"a"] * len(file["S/data"])))(file),
        "'S/data' is not numeric",
        CSR,
    ),
    "a virtual part": (_virtual_sparse, "'S' is virtual; give the files of its parts in data.path", CSR),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(rows, tmp_path, name):
    change, said, names = REFUSED[name]
    path = tmp_path / "data.h5"
    with small.changed(rows, path) as file:
        change(file)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        locate(path, names)
    assert str(caught.value).startswith(f"{path}: ")
    assert not stores.open_below(tmp_path)


def test_files_that_cannot_be_opened(rows, tmp_path, monkeypatch):
    (tmp_path / "text.h5").write_text("a,b\n1,2\n" * 1000)
    (tmp_path / "empty.h5").touch()
    for cut in np.linspace(1, rows.stat().st_size - 1, 10):
        (tmp_path / "cut.h5").write_bytes(rows.read_bytes()[: int(cut)])
        with pytest.raises(DataError, match=r"cut\.h5: (is truncated|is not an HDF5 file)"):
            locate(tmp_path / "cut.h5", Columns())
    for name, said in (
        ("text.h5", "is not an HDF5 file"),
        ("empty.h5", "is not an HDF5 file: it has no bytes"),
        ("none.h5", "there is no such file"),
        ("", "is a directory, not an HDF5 file"),
    ):
        with pytest.raises(DataError, match=said):
            locate(tmp_path / name, Columns())

    def denied(*args, **keywords):
        raise PermissionError

    monkeypatch.setattr(h5py, "File", denied)  # root may open everything
    with pytest.raises(DataError, match=r"rows\.h5: permission denied"):
        locate(rows, Columns())


def test_a_header_that_declares_what_no_machine_has(tmp_path):
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (10**12, 100), "f8", chunks=(1000, 100))
        file["y"] = np.zeros(3)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"'X' declares 1000000000000 x 100 float64 \(728 TiB\) and the file"):
        locate(path, Columns())


def test_sparse_arrays_of_several_files(rows, tmp_path):
    path = tmp_path / "data.h5"
    with small.changed(rows, path) as file:
        del file["S/indices"]
        file["S/indices"] = h5py.ExternalLink(rows, "S/indices")
    with pytest.raises(DataError, match="'S/indices' is an external link"):
        locate(path, CSR)
    with pytest.raises(DataError, match="the arrays of 'S' lie in several files; bring them into one"):
        locate(path, CSR, allow_external=True)


def test_a_file_that_is_written_elsewhere_can_be_read(rows, tmp_path):
    with small.changed(rows, tmp_path / "data.h5"):  # the writer's lock; the reader takes none
        code = "import hpcml, sys; print(hpcml.open_hdf5(sys.argv[1]).n_samples)"
        done = harness.run_job([sys.executable, "-c", code, str(tmp_path / "data.h5")], check=0)
    assert done.stdout == f"{small.N_ROWS}\n"
