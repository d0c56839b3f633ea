"""Jobs with an index and without: the same bits, fewer passes, and damage is noticed."""

from __future__ import annotations

import os
import shutil
from typing import Any

import h5py
import indexed
import numpy as np
import pytest
import small

from hpcml.algorithms import survey as survey_module
from hpcml.algorithms.scaling import fit_scaling
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.index.side_file import index_path, load_index
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table
from hpcml.run.contract import look_through

SERIAL = SerialCommunicator()
STREAMED = Layout("none")
JOBS: dict[str, dict[str, Any]] = {
    "dense": {"data__x": "X", "data__weight": "w", "preprocessing": [{"standardize": {}}]},
    "gzip in memory": {"data__x": "gzip", "data__cache": "memory", "data__dtype": "float32"},
    "csr": {"data__x": "S", "data__rows": {"start": 100, "fraction": 0.7}, "solver__name": "newton"},
    "no test part": {"data__split": {"method": "none"}, "model__type": "linear_regression", "data__y": "w"},
}
CIRCUMSTANCES = ("n_ranks", "seconds", "reading", "seconds_checkpoints", "messages", "peak_bytes", "run")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return indexed.put(tmp_path_factory.mktemp("contract") / "data.h5")


@pytest.fixture
def known(rows, tmp_path):
    """A copy of the file with an index."""
    path = tmp_path / "known.h5"
    shutil.copy2(rows, path)
    indexed.index(path, Columns("X", "y", "w"))
    return path


def looked(path, comm, columns=indexed.DATA, dtype="float64", layout=STREAMED, selection=None, classes=True):
    """Return what is known of rows, how many passes that took, and what a survey finds."""
    with open_table(comm, [path], columns, dtype) as table:
        data = HDF5Dataset(table, comm=comm, selection=selection, layout=layout)
        found = look_through(data, table, classes=classes)
        passes = data.passes
        return found, passes, survey(data, classes=classes), fit_scaling(data, True, True)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("classes", [True, False])
def test_answers_are_those_of_the_passes(known, size, classes):
    for found, passes, wanted, scaling in run_threads(
        size, lambda comm: looked(known, comm, classes=classes)
    ):
        assert passes == 0
        assert found.survey[:2] == wanted[:2] and found.survey.digest == wanted.digest
        np.testing.assert_array_equal(found.survey.classes, wanted.classes)
        for mine, other in zip(found.scaling, scaling, strict=True):
            np.testing.assert_array_equal(mine, other)


OTHERS: dict[str, dict[str, Any]] = {
    "dtype": {"dtype": "float32"},
    "shards": {"layout": Layout("none", shard_bytes=48 * 512, block_rows=256)},
    "some rows": {"selection": RowSelection(0, 0, 5000)},
    "part": {"selection": RowSelection(0, test=0.2, part="train")},
    "weight": {"columns": Columns("X", "y", None)},
    "labels": {"columns": Columns("X", "w", None), "classes": False},
    "rows": {"columns": Columns("chunked", "y", "w")},
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_rows_have_no_answer(known, case):
    for found, passes, wanted, _ in run_threads(2, lambda comm: looked(known, comm, **OTHERS[case])):
        assert passes == 1 and found.scaling is None
        assert found.survey.digest == wanted.digest


def test_another_time_of_change_has_no_answer(known):
    os.utime(known)
    found, passes, *_ = looked(known, SERIAL)
    assert passes == 1 and found.scaling is None


@pytest.mark.parametrize("change", ["__version__", "arithmetic_family"])
def test_another_version_or_arithmetic_has_no_answer(known, change, monkeypatch):
    other = (lambda: "abacus") if change == "arithmetic_family" else "0.0.0"
    monkeypatch.setattr(f"hpcml.run.contract.{change}", other)
    assert looked(known, SERIAL)[1] == 1


def test_labels_that_are_no_classes(tmp_path):
    path = indexed.put(tmp_path / "data.h5")
    indexed.index(path, Columns("X", "w", None))
    found, passes, *_ = looked(path, SERIAL, Columns("X", "w", None), classes=False)
    assert passes == 0 and found.survey.classes.size == 0
    with pytest.raises(DataError, match="more than 1000 distinct values"):
        looked(path, SERIAL, Columns("X", "w", None), classes=True)


@pytest.mark.parametrize("index", [True, False])
def test_finite_rows_are_not_looked_through_again(rows, tmp_path, index, monkeypatch):
    path = shutil.copy2(rows, tmp_path)
    if index:
        indexed.index(tmp_path / rows.name)
    seen = []
    check = survey_module.check_block
    monkeypatch.setattr(
        survey_module, "check_block", lambda *args: (seen.append(args[0].X.size), check(*args))
    )
    with open_table(SERIAL, [tmp_path / rows.name], indexed.DATA) as table:
        data = HDF5Dataset(table, comm=SERIAL, selection=RowSelection(0, 10, 8000), layout=STREAMED)
        look_through(data, table, classes=True)
    assert seen and path and (sum(seen) == 0) is index


def test_what_float32_cannot_say_is_looked_through(tmp_path):
    path = indexed.put(tmp_path / "data.h5")
    with h5py.File(path, "r+") as file:
        file["X"][77, 3] = 1e100
    indexed.index(path)
    looked(path, SERIAL)
    with (
        np.errstate(over="ignore"),
        open_table(SERIAL, [path], indexed.DATA, "float32") as table,
        pytest.raises(DataError, match="row 77, column 3 is inf"),
    ):
        look_through(HDF5Dataset(table, comm=SERIAL, layout=STREAMED), table, classes=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "w"])
def test_rows_with_gaps_are_indexed_and_refused(tmp_path, name, value):
    path = indexed.put(tmp_path / "data.h5")
    with h5py.File(path, "r+") as file:
        file[name][(4000, 2) if name == "X" else 4000] = value
    columns = Columns("X", "w", None)
    said = indexed.index(path, columns)
    assert "has NaN or Inf in 'X' or 'w'" in said[-1] and load_index(path).answers == {}
    arrays = load_index(path).contract["arrays"]
    assert [arrays[one]["is_finite"] for one in ("X", "w")] == [name != "X", name != "w"]
    if np.isnan(value):
        where = "totals/n_nan" if name == "X" else "target/n_nan"
        assert load_index(path).numbers[where].sum() == 1
    with open_table(SERIAL, [path], columns) as table, pytest.raises(DataError, match="row 4000"):
        look_through(HDF5Dataset(table, comm=SERIAL, layout=STREAMED), table, classes=False)


def test_weights_that_no_job_takes(tmp_path):
    path = indexed.put(tmp_path / "data.h5")
    with h5py.File(path, "r+") as file:
        file["w"][5] = -1.0
    with pytest.raises(DataError, match=r"data\.h5:w: row 5 is negative"):
        indexed.index(path)
    assert load_index(path).answers == {}


def _free(result):
    return {key: value for key, value in result.items() if key not in CIRCUMSTANCES}


@pytest.mark.parametrize("case", JOBS)
def test_a_job_with_an_index_has_the_same_bits(rows, tmp_path, case):
    path = tmp_path / "data.h5"
    shutil.copy2(rows, path)
    keys = {"data__partition": {}, "data__cache": "none", **JOBS[case]}
    spec = small.write_spec(tmp_path / "job.yaml", path, **keys)
    runs = {name: tmp_path / name for name in ("plain", "file", "job", "again", "three")}
    run = {name: ["run", spec, f"output.dir={folder}", "--json"] for name, folder in runs.items()}
    names = ["-x", keys.get("data__x", "X"), "-y", keys.get("data__y", "y")]
    names += ["--weight", keys["data__weight"]] if "data__weight" in keys else []
    lines = [run["plain"], ["index", path, *names], run["file"], ["index", spec], run["job"]]
    for line, (ended,) in zip(lines, small.commands(1, lines, tmp_path / "one"), strict=True):
        assert ended.code == 0, (line, ended)
    first = index_path(path).read_bytes()
    index_path(path).unlink()
    lines = [["index", path, *names], ["index", spec], run["three"]]
    for line, ranks in zip(lines, small.commands(3, lines, tmp_path / "on3"), strict=True):
        assert [rank.code for rank in ranks] == [0] * 3, (line, ranks)
    assert index_path(path).read_bytes() == first
    results = {name: small.result_of(folder) for name, folder in runs.items() if folder.exists()}
    plain, by_file, by_job, on_three = (results[name] for name in ("plain", "file", "job", "three"))
    assert (
        _free(by_file) == _free(plain) and _free(by_job) == _free(plain) and _free(on_three) == _free(plain)
    )
    assert plain["reading"]["verified"] is None
    for result in (by_file, by_job, on_three):
        assert result["reading"]["verified"]["rows"] == indexed.N
    saved = 3 if case == "no test part" else 4
    if keys["data__cache"] == "none":
        assert by_job["reading"]["passes"] == plain["reading"]["passes"] - saved
        assert on_three["reading"]["passes"] == by_job["reading"]["passes"]


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_damaged_file_ends_the_job(known, tmp_path, cache, n):
    spec = small.write_spec(tmp_path / "job.yaml", known, data__partition={}, data__cache=cache)
    small.hpcml("index", spec, check=0)
    indexed.flip(known, "X", 8200)
    ended = small.hpcml("run", spec, "-n", str(n), f"output.dir={tmp_path / 'run'}", check=3)
    sentence = f"{known}: rows 8192 to 9000 of 'X'"
    assert sentence in ended.stderr and "differ from the index known.h5.index" in ended.stderr
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_file_of_another_size_ends_the_job(known, tmp_path):
    spec = small.write_spec(tmp_path / "job.yaml", known)
    with h5py.File(known, "r+") as file:
        file["more"] = np.zeros(1000)
    lines = [
        ["run", spec, f"output.dir={tmp_path / 'run'}"],
        ["index", spec],
        ["run", spec, f"output.dir={tmp_path}/b"],
    ]
    ended = small.commands(2, lines, tmp_path / "on2")
    assert [rank.code for rank in ended[0]] == [3, 3]
    assert "was made for another state of known.h5" in ended[0][0].stderr
    assert [rank.code for rank in (*ended[1], *ended[2])] == [0] * 4


def test_a_warning_is_said_once(known, tmp_path):
    spec = small.write_spec(tmp_path / "job.yaml", known)
    os.utime(known)
    (ranks,) = small.commands(2, [["run", spec, f"output.dir={tmp_path / 'run'}"]], tmp_path / "on2")
    assert "".join(rank.stderr for rank in ranks).count("another time of change") == 1
    assert "known.h5 has another time of change than known.h5.index knows" in ranks[0].stderr


def _several(tmp_path, form):
    """Return the path of a spec over several files: a list, a glob or a virtual data set."""
    parts = [indexed.put(tmp_path / f"part{i}.h5", n) for i, n in enumerate((3000, 1, 4500))]
    if form == "glob":
        return str(tmp_path / "part*.h5"), parts
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        for name in ("X", "y"):
            sources = []
            for part in parts:
                with h5py.File(part) as there:
                    sources.append((there[name].shape, there[name].dtype))
            n = sum(shape[0] for shape, _ in sources)
            layout = h5py.VirtualLayout((n, *sources[0][0][1:]), sources[0][1])
            at = 0
            for part, (shape, _) in zip(parts, sources, strict=True):
                layout[at : at + shape[0]] = h5py.VirtualSource(part.name, name, shape)
                at += shape[0]
            file.create_virtual_dataset(name, layout)
    return str(whole), parts


@pytest.mark.parametrize("form", ["glob", "virtual"])
def test_several_files_have_an_index_each(tmp_path, form):
    data, parts = _several(tmp_path, form)
    spec = small.write_spec(tmp_path / "job.yaml", data, data__partition={}, data__cache="none")
    runs = [tmp_path / name for name in ("plain", "known")]
    run = [["run", spec, f"output.dir={folder}", "--json"] for folder in runs]
    for line, ranks in zip(
        (lines := [run[0], ["index", spec], run[1]]), small.commands(3, lines, tmp_path / "on3"), strict=True
    ):
        assert [rank.code for rank in ranks] == [0] * 3, (line, ranks)
    assert all(index_path(part).exists() for part in parts)
    plain, found = map(small.result_of, runs)
    assert _free(found) == _free(plain)
    assert found["reading"]["verified"]["rows"] == 7501
    assert found["reading"]["passes"] == plain["reading"]["passes"] - 4
    before = [index_path(part).stat().st_mtime_ns for part in parts[1:]]
    small.hpcml("index", spec, check=0)  # only answers are added, to the first
    assert [index_path(part).stat().st_mtime_ns for part in parts[1:]] == before
    indexed.flip(parts[2], "X", 0)
    with pytest.raises(DataError, match=r"part2\.h5: rows 0 to 4096 of 'X'"):
        _read(tmp_path, data, parts, form)


def _read(tmp_path, data, parts, form):
    files = parts if form == "glob" else [tmp_path / "whole.h5"]
    with open_table(SERIAL, files, Columns("X", "y", None), None, Access()) as table:
        table.read(0, table.n_samples)


def test_a_separate_test_file(rows, known, tmp_path):
    test = tmp_path / "test.h5"
    shutil.copy2(rows, test)
    keys = {
        "data__split": {"method": "file", "test": str(test)},
        "data__partition": {},
        "data__cache": "none",
    }
    spec = small.write_spec(tmp_path / "job.yaml", known, **keys)
    lines = [["index", spec], ["run", spec, f"output.dir={tmp_path / 'run'}"]]
    assert [ended.code for (ended,) in small.commands(1, lines, tmp_path / "one")] == [0, 0]
    assert index_path(test).exists()
    assert small.result_of(tmp_path / "run")["reading"]["verified"]["rows"] == 2 * indexed.N


def test_bad_commands(rows, tmp_path):
    spec = small.write_spec(tmp_path / "job.yaml", rows)
    lines = [["index", spec, rows], ["index", tmp_path / "none.h5"], ["index", rows, "-x", "nothing"]]
    ended = small.commands(2, lines, tmp_path / "on2")
    assert [[rank.code for rank in ranks] for ranks in ended] == [[2, 2], [3, 3], [3, 3]]
    assert "give one spec, or data files, not both" in ended[0][0].stderr
    assert "there is no such file" in ended[1][0].stderr
