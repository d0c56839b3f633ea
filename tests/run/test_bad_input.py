"""Bad input: one clear sentence, the documented exit code, on every rank, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import harness
import numpy as np
import pytest
import small

from hpcml.data import RowSelection

RANKS = 3
SECONDS = 30.0  # an end, not a wait: a watchdog would speak after 60
TRAINING = np.flatnonzero(RowSelection(0, test=0.2, part="train").keeps(np.arange(small.N_ROWS)))
TESTING = np.setdiff1d(np.arange(small.N_ROWS), TRAINING)
EARLY, LATE = int(TRAINING[100]), int(TRAINING[400])  # rows of different ranks


class Case(NamedTuple):
    """A data file and a spec that are wrong, and what is said of them."""

    said: str
    change: Callable[[h5py.File], Any] = lambda file: None
    keys: Mapping[str, Any] = MappingProxyType({})
    code: int = 3


def _replace(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


def _put(name: str, *places: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for index, value in places:
            file[name][index] = value

    return change


def _remove(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def _entry(row: int) -> Callable[[h5py.File], None]:
    """Make the last stored entry of a row of S infinite."""

    def change(file: h5py.File) -> None:
        file["S/data"][file["S/indptr"][row + 1] - 1] = np.inf

    return change


def _shape(*shape: int) -> Callable[[h5py.File], None]:
    return lambda file: file["S"].attrs.create("shape", shape)


def _no_shape(file: h5py.File) -> None:
    del file["S"].attrs["shape"]


def _empty(file: h5py.File) -> None:
    _replace("X", np.zeros((0, 4)))(file)
    _replace("y", np.zeros(0))(file)


def _some(labels: np.ndarray, rows: np.ndarray, value: float) -> np.ndarray:
    labels[rows] = value
    return labels


def _unwritten(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (600, 6), "f8", chunks=(100, 6), compression="gzip")[:200] = 1.0


def _huge(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (10**12, 100), "f8", chunks=(1000, 100))


def _external(file: h5py.File) -> None:
    _replace("X", h5py.ExternalLink("other.h5", "X"))(file)


def _without_source(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((600, 6), "f8")
    layout[:] = h5py.VirtualSource("gone.h5", "X", (600, 6))[:]
    del file["X"]
    file.create_virtual_dataset("X", layout)


LABELS = np.arange(small.N_ROWS) % 2
CSR = {"data__x": "S"}
STREAMED = {"data__cache": "none"}
WEIGHTED = {"data__weight": "w"}
LINEAR = {"model__type": "linear_regression", "data__y": "t"}
NAMES = "S, S/data, S/indices, S/indptr, X, chunked, float32, integers, l, rounded, t, w, y, zeros"
CASES: dict[str, Case] = {
    "missing file": Case("no-file.h5: there is no such file", keys={"data__path": "no-file.h5"}),
    "directory": Case("a-folder: is a directory, not an HDF5 file", keys={"data__path": "a-folder"}),
    "text": Case("text.h5: is not an HDF5 file", keys={"data__path": "text.h5"}),
    "no bytes": Case("empty.h5: is not an HDF5 file", keys={"data__path": "empty.h5"}),
    "truncated": Case("truncated.h5: is truncated", keys={"data__path": "truncated.h5"}),
    "wrong name of X": Case(f"there is no dataset 'Z'; the file has {NAMES}", keys={"data__x": "Z"}),
    "wrong name of y": Case("there is no dataset 'label'; the file has", keys={"data__y": "label"}),
    "wrong name of weight": Case("there is no dataset 'v'; the file has", keys={"data__weight": "v"}),
    "y is a group": Case("'S' is a group, not a dataset", keys={"data__y": "S"}),
    "fewer labels": Case("'X' has 600 rows and 'y' has shape (599,)", _replace("y", LABELS[1:])),
    "fewer weights": Case("'X' has 600 rows and 'w' has shape (10,)", _replace("w", np.ones(10)), WEIGHTED),
    "2-D y": Case("'X' has 600 rows and 'y' has shape (600, 2)", _replace("y", np.zeros((600, 2)))),
    "1-D X": Case("'X' has shape (600,); X needs rows and columns", _replace("X", np.zeros(600))),
    "3-D X": Case("'X' has shape (600, 2, 2)", _replace("X", np.zeros((600, 2, 2)))),
    "scalar X": Case("'X' has shape ()", _replace("X", 3.0)),
    "zero rows": Case("'X' has 0 rows and 4 columns", _empty),
    "zero columns": Case("'X' has 600 rows and 0 columns", _replace("X", np.zeros((600, 0)))),
    "strings in X": Case("'X' is not numeric", _replace("X", np.full((600, 2), b"a"))),
    "strings in y": Case(
        "'y' is not numeric", _replace("y", np.array(["late"] * 600, dtype=h5py.string_dtype()))
    ),
    "complex X": Case("'X' is not numeric", _replace("X", np.zeros((600, 2), complex))),
    "records in X": Case("'X' is not numeric", _replace("X", np.zeros((600, 2), [("a", "f8")]))),
    "NaN in X": Case(
        f"DATA:X: row {EARLY}, column 3 is nan",
        _put("X", ((LATE, 1), np.nan), ((EARLY, 3), np.nan), ((EARLY, 5), np.inf)),
    ),
    "Inf in X": Case(f"DATA:X: row {LATE}, column 0 is -inf", _put("X", ((LATE, 0), -np.inf))),
    "NaN in streamed X": Case(
        f"DATA:X: row {EARLY}, column 3 is nan",
        _put("X", ((LATE, 1), np.nan), ((EARLY, 3), np.nan)),
        STREAMED,
    ),
    "NaN in a test row": Case(
        f"DATA:X: row {TESTING[9]}, column 2 is nan", _put("X", ((int(TESTING[9]), 2), np.nan))
    ),
    "Inf in CSR": Case(f"DATA:S: row {EARLY}, column ", _entry(EARLY), CSR),
    "Inf in streamed CSR": Case(f"DATA:S: row {EARLY}, column ", _entry(EARLY), CSR | STREAMED),
    "too large for float32": Case(
        f"DATA:X: row {EARLY}, column 0 is inf", _put("X", ((EARLY, 0), 1e300)), {"data__dtype": "float32"}
    ),
    "NaN in y": Case(f"DATA:t: row {EARLY} is nan", _put("t", (LATE, np.inf), (EARLY, np.nan)), LINEAR),
    "Inf in weight": Case(f"DATA:w: row {LATE} is inf", _put("w", (LATE, np.inf)), WEIGHTED),
    "negative weight": Case(f"DATA:w: row {EARLY} is negative (-0.5)", _put("w", (EARLY, -0.5)), WEIGHTED),
    "weights of zero": Case("DATA:w: the weights are all zero", _replace("w", np.zeros(600)), WEIGHTED),
    "one class": Case("needs labels of two classes: all are 1", _replace("y", np.ones(600))),
    "one class weighs": Case(
        "needs labels of two classes: all are 1", _replace("w", LABELS * 1.0), WEIGHTED | {"data__y": "l"}
    ),
    "three classes": Case(
        "linear svc takes two classes in this version, not 3 (0, 1, 2",
        _replace("y", np.arange(600) % 3),
        {"model": {"type": "linear_svc"}},
    ),
    "numbers as classes": Case("takes classes, and y has ", keys={"data__y": "t"}),
    "unknown label in a test row": Case(
        "the test part has the label 7, which no training row has",
        _replace("y", _some(LABELS * 1.0, TESTING[5:6], 7)),
    ),
    "one class among the test rows": Case(
        "the test part has the label 0 alone; ROC AUC needs both",
        _replace("y", _some(LABELS * 1, TESTING, 0)),
    ),
    "chunks that were never written": Case(
        "'X' is incomplete: 4 of its 6 chunks were never written, the first at row 200", _unwritten
    ),
    "a header of 728 TiB": Case("'X' declares 1000000000000 x 100 float64 (728 TiB)", _huge),
    "external link": Case(
        "'X' is an external link to 'X' in the file 'other.h5'; set data.allow_external: true", _external
    ),
    "virtual without its source": Case("the virtual data set 'X' lacks its source", _without_source),
    "a pattern without files": Case("nothing*.h5: no file fits", keys={"data__path": "nothing*.h5"}),
    "no test rows": Case(
        "no rows are left for this part of the split", keys={"data__split": {"test": 1e-9}, "seed": 4}
    ),
    "no training rows": Case(
        "no rows are left for this part of the split", keys={"data__rows": {"start": 600}}
    ),
    "indptr not monotone": Case(
        "DATA: S/indptr does not rise between rows ", _put("S/indptr", (EARLY, 10_000)), CSR
    ),
    "indptr starts late": Case("DATA: S/indptr starts at 1, not at 0", _put("S/indptr", (0, 1)), CSR),
    "indptr ends early": Case("DATA: S/indptr ends at 5, not at ", _put("S/indptr", (-1, 5)), CSR),
    "index too large": Case("DATA: S/indices names a column outside 0..5", _put("S/indices", (700, 6)), CSR),
    "index negative": Case("DATA: S/indices names a column outside 0..5", _put("S/indices", (700, -1)), CSR),
    "index far too large": Case(
        "DATA: S/indices names a column outside 0..5",
        lambda file: _replace("S/indices", file["S/indices"][()].astype(np.int64) + (1 << 32))(file),
        CSR,
    ),
    "indices are floats": Case(
        "'S/indices' must hold integers",
        lambda file: _replace("S/indices", file["S/indices"][()] * 1.5)(file),
        CSR,
    ),
    "indptr are floats": Case(
        "'S/indptr' must hold integers",
        lambda file: _replace("S/indptr", file["S/indptr"][()] * 1.0)(file),
        CSR,
    ),
    "CSR without indices": Case(
        "the group 'S' is not in CSR form: it lacks indices", _remove("S/indices"), CSR
    ),
    "CSR without shape": Case("it lacks the attribute 'shape'", _no_shape, CSR),
    "CSR of another shape": Case("the CSR arrays of 'S' do not fit the shape", _shape(599, 6), CSR),
    "CSR shape of three": Case("the attribute 'shape' of 'S' is not two numbers", _shape(600, 6, 1), CSR),
    "CSR of groups": Case(
        "'S/data' is a group, not a dataset",
        lambda file: (_remove("S/data")(file), file.create_group("S/data")),
        CSR,
    ),
    "CSR of strings": Case(
        "'S/data' is not numeric",
        lambda file: _replace("S/data", np.full(file["S/data"].shape, b"a"))(file),
        CSR,
    ),
    "test file of other columns": Case(
        "other.h5:X has 2 columns and the training rows have 6",
        keys={"data__split": {"method": "file", "test": "other.h5"}},
    ),
    "unknown key": Case(
        "solver.tolerance: unknown key; did you mean solver.tol?", keys={"solver__tolerance": 1}, code=2
    ),
    "l1": Case("bounds have none; take prox_newton, fista or auto", keys={"model__penalty": "l1"}, code=2),
    "two ways of strength": Case("alpha and C both say the strength", keys={"model__C": 1.0}, code=2),
    "metric of another task": Case(
        "rmse does not fit model.type: logistic_regression", keys={"evaluation__metrics": ["rmse"]}, code=2
    ),
    "threshold of a regression": Case(
        "makes two classes, which does not fit task: regression",
        code=2,
        keys=LINEAR | {"data__target": {"column": "a", "threshold": 1}},
    ),
    "a checkpoint that must be": Case(
        "no checkpoint of this run", keys={"checkpoint__resume": "required"}, code=2
    ),
    "a path below a file": Case(
        "a part of the path is not a directory", keys={"output__dir": "text.h5/run"}, code=5
    ),
}


@pytest.fixture(scope="module")
def ended(rows, tmp_path_factory):
    """Run all cases in one MPI job: (folder, {case: what each rank saw})."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "a-folder").mkdir()
    (folder / "text.h5").write_text("late,early\n1,0\n" * 100)
    (folder / "empty.h5").touch()
    (folder / "truncated.h5").write_bytes(rows.read_bytes()[:30_000])
    with h5py.File(folder / "other.h5", "w") as file:
        file["X"], file["y"] = np.zeros((20, 2)), np.arange(20) % 2
    lines = []
    for name, case in CASES.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        with small.changed(rows, place / "data.h5") as file:
            file["l"] = LABELS
            case.change(file)
        keys = {"output__dir": str(place / "run"), **case.keys}
        for key in ("data__path", "output__dir"):
            keys[key] = str(folder / keys[key]) if key in keys else str(place / "data.h5")
        if "split" in str(keys) and "test" in keys.get("data__split", {}) and "method" in keys["data__split"]:
            keys["data__split"] = {"method": "file", "test": str(folder / "other.h5")}
        lines.append(["run", small.write_spec(place / "spec.yaml", place / "data.h5", **keys)])
    found = small.commands(RANKS, lines, folder / "batch", timeout=120)
    return folder, dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_bad_input(ended, name):
    folder, found = ended
    case, ranks, place = CASES[name], found[name], folder / name.replace(" ", "-")
    said = "".join(rank.stderr for rank in ranks)
    assert [rank.code for rank in ranks] == [case.code] * RANKS, said
    errors = [line for line in said.splitlines() if line.startswith("hpcml: error: ")]
    assert len(errors) == 1, said
    assert case.said.replace("DATA", str(place / "data.h5")) in errors[0]
    assert "Traceback" not in said
    assert max(rank.seconds for rank in ranks) < SECONDS
    assert not list(folder.rglob("*.part"))
    if case.code != 3:
        assert not (place / "run").exists()
        return
    files = small.everything(place / "run")
    assert set(files) <= {
        "spec.yaml",
        "resolved.yaml",
        "provenance.json",
        "state.json",
        "error.json",
        "log.txt",
    }
    error = json.loads(files["error.json"])
    assert error["exit_code"] == 3 and f"hpcml: error: {error['message']}" == errors[0]
    assert error["phase"] in ("open", "read") and error["rank"] in range(RANKS)
    assert json.loads(files["state.json"])["state"] == "failed"


def test_the_table_starts_from_what_works(rows, tmp_path):
    for x, y, weight in (("X", "y", "w"), ("S", "t", None)):
        kind = "logistic_regression" if y == "y" else "linear_regression"
        spec = small.write_spec(
            tmp_path / x, rows, data__x=x, data__y=y, data__weight=weight, model__type=kind
        )
        small.hpcml("run", spec, f"output.dir={tmp_path / 'run' / x}", check=0)


def _one_sentence(done: harness.Completed, code: int, said: str) -> None:
    assert done.returncode == code, done.describe()
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1 and said in errors[0], done.describe()
    assert "Traceback" not in done.stderr
    assert done.seconds < SECONDS and done.survivors == ()


@pytest.mark.parametrize("by", ["mpiexec", "minus n"])
@pytest.mark.parametrize(
    ("case", "code"), [("missing file", 3), ("NaN in X", 3), ("a path below a file", 5), ("unknown key", 2)]
)
def test_the_code_and_the_sentence_pass_the_launcher(ended, tmp_path, case, code, by):
    folder = ended[0] / case.replace(" ", "-")
    words = ["-m", "hpcml", "run", str(folder / "spec.yaml")]
    words += [] if code == 5 else [f"output.dir={tmp_path / 'run'}"]
    if by == "mpiexec":
        done = harness.mpirun(RANKS, words)
    else:
        done = harness.run_job([sys.executable, *words, "-n", str(RANKS)])
    _one_sentence(done, code, CASES[case].said.replace("DATA", str(folder / "data.h5")))
    assert (tmp_path / "run").exists() == (code == 3)


MODEL = "model: {type: logistic_regression}\n"
TEXTS = {
    "unknown key": (
        "model:\n  type: logistic_regression\n  alpa: 1.0\n",
        "spec.yaml:5: model.alpa: unknown key; did you mean model.alpha?",
    ),
    "duplicate key": (MODEL + "seed: 1\nseed: 2\n", "spec.yaml:5: seed: "),
    "off": (MODEL + "solver: {name: off}\n", "spec.yaml:4: solver.name: "),
    "sexagesimal": (MODEL + "solver: {max_time: 1:30:00:00}\n", "spec.yaml:4: solver.max_time: "),
    "number as text": (MODEL + "solver: {tol: 1e-4x}\n", "spec.yaml:4: solver.tol: "),
    "not YAML": ("model: {type: [\n", "spec.yaml:"),
    "a tag": ("model: !!python/object/apply:os.system ['true']\n", "spec.yaml:3"),
    "a step that is none": (MODEL + "preprocessing: [standardise]\n", "did you mean standardize?"),
    "no model": ("seed: 1\n", "model"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_spec_names_line_and_key(tmp_path, name):
    text, said = TEXTS[name]
    (tmp_path / "spec.yaml").write_text(f"name: small\ndata: {{path: rows.h5}}\n{text}")
    for verb in ("run", "validate"):
        done = small.hpcml(verb, tmp_path / "spec.yaml", cwd=tmp_path)
        _one_sentence(done, 2, said)
    assert sorted(os.listdir(tmp_path)) == ["spec.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "absent.yaml"], "absent.yaml: no such file"),
        (["run", "."], "is a directory; give the path of a YAML file in it"),
        (["run", "spec.yaml", "solver.tol"], "'solver.tol' is not an override; write KEY=VALUE"),
        (["run", "spec.yaml", "--bogus"], "unrecognized arguments: --bogus"),
        (["run", "spec.yaml", "solver.max_iterations=3"], "unknown key; did you mean solver.max_iter?"),
        (["run"], "the following arguments are required: SPEC"),
        (["walk", "spec.yaml"], "invalid choice: 'walk'"),
        (["run", "spec.yaml", "-n", "0"], "0 ranks cannot work; give 1 or more"),
        (["predict", "m.h5", "d.h5", "-o", "p.h5", "-n", "0"], "0 ranks cannot work; give 1 or more"),
        (["evaluate", "m.h5", "d.h5", "-n", "-2"], "-2 ranks cannot work; give 1 or more"),
        (["run", "spec.yaml", "-n", "two"], "invalid int value: 'two'"),
        (["resume", "."], "is not a run directory"),
        (["show"], "give a spec, or --keys"),
        (["convert", "a.csv"], "give the tables and, last, the HDF5 file to write; or one spec"),
    ],
)
def test_bad_usage(rows, tmp_path, words, said):
    small.write_spec(tmp_path / "spec.yaml", rows)
    done = small.hpcml(*words, cwd=tmp_path)
    _one_sentence(done, 2, said)
    assert sorted(os.listdir(tmp_path)) == ["spec.yaml"]


def test_bad_usage_under_a_launcher_is_said_once(rows, tmp_path, mpirun):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    done = mpirun(RANKS, ["-m", "hpcml", "run", str(spec), "--bogus"], cwd=tmp_path)
    _one_sentence(done, 2, "unrecognized arguments: --bogus")


def test_an_error_under_debug_shows_its_traceback_once(ended, tmp_path, mpirun):
    spec = ended[0] / "NaN-in-X" / "spec.yaml"
    done = mpirun(RANKS, ["-m", "hpcml", "run", str(spec), "--debug", f"output.dir={tmp_path / 'run'}"])
    assert done.returncode == 3 and done.stderr.count("Traceback (most recent call last)") == 1


def _mounted(folder: Path, *options: str) -> Path:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here ({done.stderr.decode().strip()})")
    return folder


def _failed_output(rows: Path, spec: Path, run: Path, said: str, n: int) -> None:
    small.write_spec(spec, rows)
    done = small.hpcml("run", spec, f"output.dir={run}", "-n", n)
    _one_sentence(done, 5, said)
    left = small.everything(run) if run.exists() else {}
    assert not {"result.json", "model.h5", "manifest.json"} & set(left)
    assert not [name for name in left if name.endswith(".part")]


@pytest.mark.parametrize(
    ("options", "said"),
    [(("ro",), "the file system is read-only"), (("size=8k",), "no space left on the device")],
    ids=["read-only", "full"],
)
def test_a_file_system_that_takes_nothing(rows, tmp_path, options, said):
    place = _mounted(tmp_path / "place", *options)
    try:
        _failed_output(rows, tmp_path / "spec.yaml", place / "run", said, 3)
    finally:
        subprocess.run(["umount", place], check=True)


def test_no_permission(rows, tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    _failed_output(rows, tmp_path / "spec.yaml", tmp_path / "closed" / "run", "permission denied", 3)


def test_a_limit_of_file_size(rows, tmp_path):
    # The model file is larger than 8 blocks of 512 bytes, what comes before it is not.
    small.write_spec(tmp_path / "spec.yaml", rows)
    job = f"{sys.executable} -m hpcml run {tmp_path / 'spec.yaml'} output.dir={tmp_path / 'run'}"
    argv = f"ulimit -f 8; exec {job}"
    done = harness.run_job([shutil.which("bash") or "bash", "-c", argv])
    _one_sentence(done, 5, "model.h5: the file would be larger than the limit allows")
    files = small.everything(tmp_path / "run")
    assert not {"result.json", "model.h5", "manifest.json"} & set(files)
    assert json.loads(files["error.json"])["exit_code"] == 5
    assert json.loads(files["state.json"])["state"] == "failed"
