"""Predictions of whole jobs: after a fit, and of a model file; the same for any number of ranks."""

from __future__ import annotations

import json
import shutil
import sys

import h5py
import harness
import numpy as np
import pytest
import small

from hpcml.data import RowSelection
from hpcml.io.files import file_digest
from hpcml.io.model import read_model
from hpcml.io.write.predictions_read import read_predictions

SIZES = (1, 3, 12)
CASES = {
    "test": {"evaluation__predictions": "test"},
    "all": {"evaluation__predictions": "all", "data__rows": {"start": 100, "fraction": 0.5}, "data__x": "S"},
    "regression": {
        "evaluation__predictions": "test",
        "model": {"type": "linear_regression", "alpha": 0.01},
        "data__y": "t",
    },
}


@pytest.fixture(scope="module")
def ran(rows, tmp_path_factory):
    """Every case on every number of ranks: {case: {size: run directory}}."""
    folder = tmp_path_factory.mktemp("predicted")
    specs = {case: small.write_spec(folder / f"{case}.yaml", rows, **keys) for case, keys in CASES.items()}
    found = {case: {n: folder / f"{n}-{case}" for n in SIZES} for case in CASES}
    for n in SIZES:
        lines = [["run", spec, f"output.dir={found[case][n]}"] for case, spec in specs.items()]
        model = found["test"][1]
        for part in ("train", "test", "all"):
            lines.append(
                ["predict", model, rows, "--part", part, "--aligned", "-o", folder / f"{n}-{part}.h5"]
            )
        for line, ranks in zip(lines, small.commands(n, lines, folder / f"on{n}", timeout=120), strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
    return found


def of_model(run, rows, x="X"):
    model = read_model(run / "model.h5").arrays
    with h5py.File(rows) as file:
        return file[{"S": "zeros"}.get(x, x)][()] @ model["coef"] + model["intercept"]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("case", CASES)
def test_the_same_file_for_any_number_of_ranks(ran, case):
    runs = ran[case]
    assert len({file_digest(run / "predictions.h5") for run in runs.values()}) == 1
    manifest = json.loads((runs[3] / "manifest.json").read_text())["files"]
    assert manifest["predictions.h5"] == file_digest(runs[1] / "predictions.h5")
    assert "predict" in small.result_of(runs[1])["seconds"]


def test_the_test_rows(ran, rows):
    columns, about = read_predictions(ran["test"][1] / "predictions.h5")
    test = np.flatnonzero(RowSelection(test=0.2, part="test").keeps(np.arange(small.N_ROWS)))
    assert np.array_equal(columns["row"], test) and about["data"] == f"{rows}:X"
    z = of_model(ran["test"][1], rows)[test]
    np.testing.assert_allclose(columns["probability"], sigmoid(z), rtol=1e-12)
    assert np.array_equal(columns["prediction"], (z > 0).astype(float))
    with h5py.File(rows) as file:
        accuracy = (file["y"][()][test] == columns["prediction"]).mean()
    assert accuracy == small.result_of(ran["test"][1])["metrics"]["accuracy"]


def test_all_rows_that_the_spec_selects(ran, rows):
    columns, _ = read_predictions(ran["all"][3] / "predictions.h5")
    selected = np.flatnonzero(RowSelection(start=100, fraction=0.5).keeps(np.arange(small.N_ROWS)))
    assert np.array_equal(columns["row"], selected)
    expected = sigmoid(of_model(ran["all"][3], rows, "S")[selected])
    np.testing.assert_allclose(columns["probability"], expected, rtol=1e-12)


def test_a_regression_has_raw_predictions(ran, rows):
    columns, _ = read_predictions(ran["regression"][1] / "predictions.h5")
    assert set(columns) == {"row", "prediction"}
    expected = of_model(ran["regression"][1], rows)[columns["row"]]
    np.testing.assert_allclose(columns["prediction"], expected, rtol=1e-12)


@pytest.mark.parametrize("part", ["train", "test", "all"])
def test_aligned_with_the_data(ran, rows, part):
    folder = ran["test"][1].parent
    assert len({file_digest(folder / f"{n}-{part}.h5") for n in SIZES}) == 1
    columns, _ = read_predictions(folder / f"1-{part}.h5")
    keep = RowSelection(test=0.2, part=part).keeps(np.arange(small.N_ROWS))
    assert np.array_equal(columns["row"], np.arange(small.N_ROWS))
    expected = np.where(keep, sigmoid(of_model(ran["test"][1], rows)), np.nan)
    np.testing.assert_allclose(columns["probability"], expected, rtol=1e-12)
    assert np.array_equal(np.isnan(columns["prediction"]), ~keep)


def test_no_test_rows_is_refused_before_anything_is_read(tmp_path):
    for split in ({"method": "none"}, {"test": 0.0}):
        spec = small.write_spec(
            tmp_path / "spec.yaml", tmp_path / "none.h5", data__split=split, evaluation__predictions="test"
        )
        done = small.hpcml("validate", spec, check=2)
        assert "evaluation.predictions: test needs test rows" in done.stderr


def test_replacing_a_run_leaves_none_of_its_predictions(rows, tmp_path):
    run = tmp_path / "run"
    spec = small.write_spec(tmp_path / "spec.yaml", rows, evaluation__predictions="all")
    small.hpcml("run", spec, f"output.dir={run}", check=0)
    (run / "predictions.h5.parts" / "0123456789abcdef").mkdir(parents=True)  # of one that was large
    again = [
        "run",
        spec,
        f"output.dir={run}",
        "output.overwrite=always",
        "seed=1",
        "evaluation.predictions=none",
    ]
    small.hpcml(*again, check=0)
    assert not list(run.glob("predictions*"))


def spoilt(source, path):
    with small.changed(source, path) as file:
        file["X"][411, 2] = np.nan
    return path


def test_bad_rows_are_named_and_nothing_is_left(ran, rows, tmp_path):
    data, out = spoilt(rows, tmp_path / "bad.h5"), tmp_path / "out" / "p.h5"
    for n in ("1", "3"):
        done = small.hpcml("predict", ran["test"][1], data, "-o", out, "-n", n, check=3)
        assert done.stderr.count(f"{data}:X: row 411, column 2 is nan") == 1
        assert not out.exists()


def test_a_full_disk(ran, rows, tmp_path):
    out = tmp_path / "p.h5"
    words = f"predict {ran['test'][1]} {rows} -o {out}"
    argv = f"ulimit -f 8; exec {sys.executable} -m hpcml {words}"
    done = harness.run_job([shutil.which("bash") or "bash", "-c", argv], check=5)
    assert done.stderr.strip().endswith(f"cannot write {out}: the file would be larger than the limit allows")
    assert list(tmp_path.iterdir()) == []


def test_many_rows_go_into_parts(ran, tmp_path):
    n = 3_000_000  # 72 MB of predictions
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file["X"] = rng.normal(size=(n, 6)).astype(np.float32)
    outs = [tmp_path / f"{size}.h5" for size in (1, 3)]
    for size, out in zip((1, 3), outs, strict=True):
        words = ["predict", ran["test"][1], tmp_path / "large.h5", "-o", out, "-n", str(size)]
        assert small.hpcml(*words, check=0).stdout == f"{out}: predictions of 3,000,000 rows\n"
        assert out.stat().st_size < 1 << 16 and out.with_name(out.name + ".parts").is_dir()
    found = [read_predictions(out).columns for out in outs]
    with h5py.File(outs[1]) as file:
        found.append({name: file[name][()] for name in file})
    for one in found[1:]:
        assert all(np.array_equal(one[name], found[0][name]) for name in ("row", "prediction", "probability"))
    assert np.array_equal(found[0]["row"], np.arange(n))
    expected = sigmoid(of_model(ran["test"][1], tmp_path / "large.h5"))
    np.testing.assert_allclose(found[0]["probability"], expected, rtol=1e-9)
