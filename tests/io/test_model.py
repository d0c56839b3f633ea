"""The model file: any HDF5 tool reads it, and nothing in it is executed."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcml.errors import DataError, OutputError
from hpcml.io.image import hdf5_image
from hpcml.io.model import read_model, write_model

ARRAYS = {
    "coef": np.array([1.5, -0.0, np.pi, 5e-324, 1e308]),
    "intercept": [0.1],
    "classes": np.array([0.0, 1.0]),
    "mean": np.zeros(5),
    "scale": np.ones(5),
}
ABOUT = {"kind": "logistic_regression", "labels": None, "feature_names": ["a", "é"], "spec": {"seed": 1}}


def test_it_comes_back_to_the_bit(tmp_path):
    write_model(tmp_path / "model.h5", ARRAYS, ABOUT)
    arrays, about = read_model(tmp_path / "model.h5")
    assert {n: a.tobytes() for n, a in arrays.items()} == {
        n: np.asarray(a).tobytes() for n, a in ARRAYS.items()
    }
    assert about == ABOUT
    assert os.listdir(tmp_path) == ["model.h5"]


@given(st.lists(st.floats(width=64), max_size=20))
def test_any_floats_come_back(values):
    image = hdf5_image({"coef": np.array(values, "<f8")}, {})
    assert image == hdf5_image({"coef": np.array(values, "<f8")}, {})  # no time of day in it


def test_other_tools_read_it(tmp_path):
    write_model(tmp_path / "model.h5", ARRAYS, ABOUT)
    with h5py.File(tmp_path / "model.h5") as file:
        assert set(file) == set(ARRAYS)
        assert all(file[name].dtype == np.dtype("<f8") for name in file)
        assert json.loads(file.attrs["about"]) == {**ABOUT, "arrays": list(ARRAYS)}
        assert file["coef"][2] == np.pi


def _changed(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.attrs.__delitem__("about"), "is not a model file"),
        (lambda file: file.attrs.__delitem__("hpcml_format"), "is not a model file"),
        (lambda file: file.__delitem__("coef"), "is not a model file"),
        (lambda file: file.attrs.modify("hpcml_format", 99), "has format 99; this version reads up to 1"),
        (lambda file: file.attrs.__setitem__("about", "{broken"), "is not a model file"),
        (lambda file: file.attrs.__setitem__("about", "[1]"), "is not a model file"),
        (lambda file: (file.__delitem__("coef"), file.create_group("coef")), "is not a model file"),
        (lambda file: (file.__delitem__("coef"), file.__setitem__("coef", [b"a"])), "is not a model file"),
    ],
    ids=["about", "format", "coef", "later", "json", "list", "group", "text"],
)
def test_another_file_is_refused(tmp_path, change, said):
    write_model(tmp_path / "model.h5", ARRAYS, ABOUT)
    _changed(tmp_path / "model.h5", change)
    with pytest.raises(DataError, match=said):
        read_model(tmp_path / "model.h5")


def test_every_cut_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    write_model(path, ARRAYS, ABOUT)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_model(path)


def test_a_full_disk_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_model(tmp_path / "file" / "model.h5", ARRAYS, ABOUT)
