"""Rows of HDF5 files as other formats: the same bytes for any number of ranks, the same bits on the way."""

from __future__ import annotations

import errno
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import harness
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_svmlight_file
from small import hpcml, put_csr

from hpcml.collectives import run_threads
from hpcml.errors import DataError, OutputError
from hpcml.io.convert.conversion import convert
from hpcml.io.convert.recipe import Recipe
from hpcml.io.export import file as export_module
from hpcml.io.export.file import export
from hpcml.io.files import file_digest
from hpcml.io.read.hdf5 import Columns

SIZES = [1, 2, 3, 5, 70]
SUFFIXES = ["csv", "jsonl", "libsvm", "npy", "parquet"]


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_UNIT_BYTES", 200)


def numbers(dtype: str, n: int = 57) -> np.ndarray:
    """Any finite bits, four tenths of them; the rest is zero."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, (n, 5), dtype=np.uint64).view(np.float64)
    bits = np.where(np.abs(bits) < 1e300, bits, 1 / 3)
    chosen = np.where(rng.random((n, 5)) < 0.6, 0.0, bits)
    return chosen if dtype == "float64" else np.clip(chosen, -1e30, 1e30).astype(dtype) + np.float32(0)


def make(path: Path, X: np.ndarray, layout: str, classes: list[str] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        if layout == "dense":
            file["X"] = X
        else:
            put_csr(file, "X", sparse.csr_array(X))
        file["y"] = np.arange(len(X)) % 3.0 if classes else np.linspace(-1, 1, len(X))
        if classes:
            file.attrs["classes"] = classes
    return path


def run(size: int, source: Path, destination: Path, **options: Any) -> int:
    return run_threads(
        size, lambda comm: export(comm, source, destination, Columns(), lambda line: None, **options)
    )[0]


def stored(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with h5py.File(path) as file:
        y = file["y"][:] if "y" in file else None
        if isinstance(file["X"], h5py.Dataset):
            return file["X"][:], y
        parts = tuple(file["X"][name][:] for name in ("data", "indices", "indptr"))
        return sparse.csr_array(parts, shape=tuple(file["X"].attrs["shape"])).toarray(), y


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_there_and_back(tmp_path: Path, suffix: str, layout: str, dtype: str) -> None:
    source = make(tmp_path / "t.h5", numbers(dtype), layout)
    files = [tmp_path / f"{size}.{suffix}" for size in SIZES]
    assert [run(size, source, path) for size, path in zip(SIZES, files, strict=True)] == [57] * 5
    assert len({file_digest(path) for path in files}) == 1, "the same to the byte"
    features = {"libsvm": {"n_features": 5}, "npy": {}}.get(suffix, {})
    recipe = Recipe(target=None if suffix == "npy" else "y", layout=layout, dtype=dtype, **features)
    run_threads(3, lambda comm: convert(comm, [files[3]], tmp_path / "back.h5", recipe, lambda line: None))
    (X, y), (X0, y0) = stored(tmp_path / "back.h5"), stored(source)
    assert X.dtype == dtype
    assert (X + 0).tobytes() == (X0 + 0).tobytes()
    np.testing.assert_array_equal(np.load(tmp_path / "5_y.npy") if suffix == "npy" else y, y0)
    names = {path.name for path in tmp_path.iterdir()} - {path.name for path in files}
    assert names == {"t.h5", "back.h5", *(f"{size}_y.npy" for size in SIZES if suffix == "npy")}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read X and y with other people's readers."""
    if path.suffix == ".libsvm":
        X, y = load_svmlight_file(BytesIO(path.read_bytes()), n_features=5, zero_based=False)
        return X.toarray(), y
    if path.suffix == ".npy":
        return np.load(path), np.load(path.with_name(f"{path.stem}_y.npy"))
    if path.suffix == ".csv":
        frame = pd.read_csv(path)
    elif path.suffix == ".jsonl":
        frame = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    else:
        frame = pd.read_parquet(path)
    assert list(frame.columns) == [*(f"x{j}" for j in range(5)), "y"]
    return frame.iloc[:, :-1].to_numpy(float), frame["y"].to_numpy()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_others_read_it(tmp_path: Path, suffix: str) -> None:
    source = make(tmp_path / "t.h5", numbers("float64"), "dense")
    run(3, source, tmp_path / f"t.{suffix}")
    X, y = read(tmp_path / f"t.{suffix}")
    np.testing.assert_array_equal(X, stored(source)[0])
    np.testing.assert_array_equal(y, stored(source)[1])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_classes_names_and_missing_values(tmp_path: Path, suffix: str) -> None:
    classes = ["a", 'b"', "c,\n"]
    X = np.where(np.arange(60).reshape(12, 5) % 7 == 0, np.nan, np.arange(60.0).reshape(12, 5))
    source = make(tmp_path / "t.h5", X, "dense", classes)
    with h5py.File(source, "r+") as file:
        file["feature_names"] = ["y", 'q"', "é", "a b", "c=d"]
    for size in (1, 3):
        run(size, source, tmp_path / f"{size}.{suffix}")
    path = tmp_path / f"3.{suffix}"
    assert path.read_bytes() == (tmp_path / f"1.{suffix}").read_bytes()
    readers: dict[str, Any] = {
        "csv": pd.read_csv,
        "jsonl": lambda path: pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()]),
        "parquet": pd.read_parquet,
    }
    frame = readers[suffix](path)
    assert sorted(frame.columns) == sorted(["y", 'q"', "é", "a b", "c=d", "y_"])
    assert frame["y_"].tolist() == [classes[i % 3] for i in range(12)]
    np.testing.assert_array_equal(frame[["y", 'q"', "é", "a b", "c=d"]].to_numpy(float), X)
    if suffix == "jsonl":
        assert '"y":' not in path.read_text().splitlines()[0], "what is missing has no key"


def test_a_conversion_comes_back_under_its_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "late,dist,c\n" + "".join(f"{'ny'[i % 2]},{i / 7},{i % 3}\n" for i in range(9))
    )
    recipe = Recipe(target="late", numeric=("dist", "c"), layout="dense")
    run_threads(
        2, lambda comm: convert(comm, [tmp_path / "t.csv"], tmp_path / "t.h5", recipe, lambda line: None)
    )
    run(2, tmp_path / "t.h5", tmp_path / "back.csv")
    frame = pd.read_csv(tmp_path / "back.csv")
    assert list(frame.columns) == ["dist", "c", "late"]
    pd.testing.assert_frame_equal(frame, pd.read_csv(tmp_path / "t.csv")[["dist", "c", "late"]])


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_refused(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = numbers("float64")
    monkeypatch.setattr(export_module, "_MOST_COLUMNS", 4)
    wide = make(tmp_path / "wide.h5", X, "csr")
    with pytest.raises(DataError, match="write libsvm"):
        run(size, wide, tmp_path / "t.csv")
    assert run(size, wide, tmp_path / "t.libsvm") == 57
    infinite = make(tmp_path / "inf.h5", np.where(X[40, 2] == X, np.inf, X), "dense")
    with pytest.raises(DataError, match="infinite"):
        run(size, infinite, tmp_path / "t.jsonl")
    odd = make(tmp_path / "odd.h5", X, "dense", ["one", "two"])
    with pytest.raises(DataError, match="number none of the 2 classes"):
        run(size, odd, tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(OutputError, match="is there"):
        run(size, infinite, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "mine"
    with pytest.raises(DataError, match="no such file"):
        run(size, tmp_path / "none.h5", tmp_path / "u.csv")
    names = {"wide.h5", "inf.h5", "odd.h5", "t.csv", "t.libsvm"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "t.h5", numbers("float64"), "dense")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(export_module.os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        run(3, source, tmp_path / f"t.{suffix}")
    assert os.listdir(tmp_path) == ["t.h5"]


def test_by_the_command(tmp_path: Path) -> None:
    """On real ranks: a table to HDF5 by a recipe, more rows, and out again."""
    lines = [f"{i},{'AA' if i % 2 else 'UA'},{i * 3}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["n,carrier,y", *lines[:25]]))
    (tmp_path / "b.csv").write_text("\n".join(["n,carrier,y", *lines[25:]]))
    (tmp_path / "recipe.yaml").write_text("target: y\nfilter: ['n != 3']\nderive: {square: n ** 2}\n")
    data = tmp_path / "data.h5"
    made = hpcml(
        "convert", tmp_path / "a.csv", data, "--recipe", tmp_path / "recipe.yaml", "-n", "2", check=0
    )
    assert "24 rows x 4 features" in made.stdout + made.stderr
    hpcml("convert", tmp_path / "b.csv", data, "--append", "-n", "3", check=0)
    harness.mpirun(3, "-m", "hpcml", "convert", data, tmp_path / "three.csv", check=0)
    hpcml("convert", data, tmp_path / "one.csv", check=0)
    assert (tmp_path / "three.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    frame = pd.read_csv(tmp_path / "one.csv")
    assert frame["square"].tolist() == [i**2 for i in range(40) if i != 3]
    assert hpcml("convert", data, tmp_path / "one.csv").returncode == 5
    assert hpcml("convert", data, tmp_path / "one.xls").returncode == 2
    assert hpcml("convert", tmp_path / "b.csv", data, "--append", "--target", "y").returncode == 2
