"""Rows added to a conversion: the content of a conversion of all sources at once, or the old file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcml.collectives import run_threads
from hpcml.errors import DataError, OutputError, SpecError
from hpcml.io.convert.append import append
from hpcml.io.convert.conversion import convert, is_current
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.steps import Steps

CARRIERS = ["UA", "AA", "DL"]


def table(
    path: Path, start: int, stop: int, carriers: list[str] = CARRIERS, header: str = "dist,c,y"
) -> Path:
    rows = (f"{i * 0.3},{carriers[i % len(carriers)]},{'yes' if i % 4 else 'no'}" for i in range(start, stop))
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def run(size: int, sources: list[Path], destination: Path, recipe: Recipe) -> Any:
    return run_threads(size, lambda comm: convert(comm, sources, destination, recipe, lambda line: None))[0]


def add(size: int, sources: list[Path], destination: Path) -> Any:
    return run_threads(size, lambda comm: append(comm, sources, destination, lambda line: None))[0]


def parts(folder: Path) -> list[Path]:
    return [table(folder / "a.csv", 0, 30), table(folder / "b.csv", 30, 47), table(folder / "c.csv", 47, 50)]


@pytest.mark.parametrize("layout", ["dense", "csr", "auto"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 60])
def test_as_all_at_once(tmp_path: Path, layout: str, size: int) -> None:
    sources = parts(tmp_path)
    steps = Steps(derive={"half": "dist / 2"}, filter=("dist < 14",), fraction=0.8, seed=2)
    recipe = Recipe(target="y", missing="indicator", layout=layout, dtype="float32", steps=steps)
    whole = run(1, sources, tmp_path / "whole.h5", recipe)
    run(2, sources[:1], tmp_path / "t.h5", recipe)
    report = add(size, sources[1:2], tmp_path / "t.h5")
    assert report.converted
    report = add(size, sources[2:], tmp_path / "t.h5")
    assert (report.digest, report.n_read, report.n_samples) == (whole.digest, 50, whole.n_samples)
    assert report.density == pytest.approx(whole.density)
    assert is_current(tmp_path / "t.h5", recipe, sources)
    with h5py.File(tmp_path / "t.h5") as file:
        assert [one["name"] for one in json.loads(file.attrs["hpcml_sources"])] == ["a.csv", "b.csv", "c.csv"]
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv", "c.csv", "t.h5", "whole.h5"]


def test_libsvm_as_all_at_once(tmp_path: Path) -> None:
    for i, text in enumerate(["1 0:1 4:2\n2 3:1\n", "3 1:5\n4\n", "1 2:1\n"]):
        (tmp_path / f"{i}.svm").write_text(text)
    sources = [tmp_path / f"{i}.svm" for i in range(3)]
    whole = run(1, sources, tmp_path / "whole.h5", Recipe(layout="csr"))
    run(2, sources[:1], tmp_path / "t.h5", Recipe(layout="csr"))
    assert add(3, sources[1:], tmp_path / "t.h5").digest == whole.digest


def test_what_is_there_is_not_added_again(tmp_path: Path) -> None:
    sources = parts(tmp_path)
    run(2, sources[:2], tmp_path / "t.h5", Recipe(target="y"))
    before = (tmp_path / "t.h5").read_bytes()
    report = add(2, sources[:1], tmp_path / "t.h5")
    assert (report.converted, report.n_samples) == (False, 47)
    with pytest.raises(DataError, match=r"has b\.csv already"):
        add(2, sources[1:], tmp_path / "t.h5")
    assert (tmp_path / "t.h5").read_bytes() == before


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    ("carriers", "header", "problem"),
    [
        (["UA", "XX", "YY"], "dist,c,y", "column 'c' has new categories: 'XX', 'YY'; convert all"),
        (CARRIERS, "dist,c2,y", "no column 'c'"),
        (CARRIERS, "dist,c,y,more", "differ in their columns: more"),
    ],
)
def test_other_columns_and_categories(
    tmp_path: Path, carriers: list[str], header: str, problem: str, size: int
) -> None:
    run(2, [table(tmp_path / "a.csv", 0, 30)], tmp_path / "t.h5", Recipe(target="y"))
    before = (tmp_path / "t.h5").read_bytes()
    source = table(tmp_path / "b.csv", 30, 40, carriers, header)
    if header.endswith("more"):
        lines = source.read_text().splitlines()
        source.write_text("\n".join([lines[0], *(line + ",1" for line in lines[1:])]))
    with pytest.raises(DataError, match=problem):
        add(size, [source], tmp_path / "t.h5")
    assert (tmp_path / "t.h5").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv", "t.h5"]


def test_new_class_and_a_column_that_becomes_text(tmp_path: Path) -> None:
    run(2, [table(tmp_path / "a.csv", 0, 30)], tmp_path / "t.h5", Recipe(target="y"))
    (tmp_path / "b.csv").write_text("dist,c,y\n1,UA,perhaps\n")
    with pytest.raises(DataError, match="new categories: 'perhaps'"):
        add(2, [tmp_path / "b.csv"], tmp_path / "t.h5")
    (tmp_path / "b.csv").write_text("dist,c,y\nfar,UA,yes\n")
    with pytest.raises(DataError, match="'far' is not a number"):
        add(2, [tmp_path / "b.csv"], tmp_path / "t.h5")


@pytest.mark.parametrize("missing", ["mean", "median", "most_frequent"])
def test_what_depends_on_all_rows_is_refused(tmp_path: Path, missing: str) -> None:
    sources = parts(tmp_path)
    run(1, sources[:1], tmp_path / "t.h5", Recipe(target="y", missing=missing))
    with pytest.raises(DataError, match=f"missing: {missing} depends on all rows"):
        add(2, sources[1:], tmp_path / "t.h5")


def test_only_to_a_conversion(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["X"] = np.zeros((2, 2))
    for name in ("t.h5", "none.h5"):
        with pytest.raises(DataError, match=r"no conversion of tables|no such file"):
            add(2, parts(tmp_path)[:1], tmp_path / name)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = parts(tmp_path)
    run(2, sources[:1], tmp_path / "t.h5", Recipe(target="y"))
    before = (tmp_path / "t.h5").read_bytes()

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="no space left"):
        add(3, sources[1:], tmp_path / "t.h5")
    monkeypatch.undo()
    assert (tmp_path / "t.h5").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv", "c.csv", "t.h5"]


def test_a_derived_column_of_an_absent_one(tmp_path: Path) -> None:
    recipe = Recipe(numeric=("dist",), steps=Steps(filter=("dist >= 0",)))
    run(1, parts(tmp_path)[:1], tmp_path / "t.h5", recipe)
    (tmp_path / "d.csv").write_text("distance\n1\n")
    with pytest.raises((DataError, SpecError), match="no column 'dist'; did you mean 'distance'"):
        add(2, [tmp_path / "d.csv"], tmp_path / "t.h5")
