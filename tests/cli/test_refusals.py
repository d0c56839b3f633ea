"""Commands that would lose a file, pass damage on, or make no sense: one sentence, and nothing changed."""

from __future__ import annotations

import os
import sys

import h5py
import harness
import numpy as np
import pytest

HPCML = [sys.executable, "-m", "hpcml"]


@pytest.fixture
def generated(tmp_path):
    path = tmp_path / "data.h5"
    argv = [*HPCML, "generate", "classification", "-o", path, "--rows", "3000", "--features", "5"]
    harness.run_job(list(map(str, argv)), check=0)
    return path


def refused(code, *words, cwd=None):
    return harness.run_job([*HPCML, *map(str, words)], check=code, cwd=cwd).stderr


@pytest.mark.parametrize("ranks", [1, 3])
def test_damage_that_an_index_knows_is_not_rechunked(generated, tmp_path, ranks):
    harness.run_job([*HPCML, "index", str(generated)], check=0)
    status = generated.stat()
    with h5py.File(generated) as file:
        offset = file["X"].id.get_offset() + 2999 * 40
    with generated.open("r+b") as raw:
        raw.seek(offset)
        raw.write(np.float64(7.0).tobytes())
    os.utime(generated, ns=(status.st_atime_ns, status.st_mtime_ns))
    text = refused(3, "rechunk", generated, tmp_path / "copy.h5", "-n", ranks)
    assert "'X'" in text and "differ from the index" in text
    assert not (tmp_path / "copy.h5").exists()


def test_predictions_replace_predictions_alone(generated, tmp_path):
    spec = tmp_path / "job.yaml"
    spec.write_text("name: job\ndata: {path: data.h5}\nmodel: {type: logistic_regression}\n")
    run = tmp_path / "run"
    harness.run_job([*HPCML, "run", str(spec), f"output.dir={run}"], check=0)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other.h5").write_bytes(generated.read_bytes())
    for name in ("notes.txt", "other.h5"):
        before = (tmp_path / name).read_bytes()
        assert "holds no predictions" in refused(5, "predict", run, generated, "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    assert "is a directory" in refused(5, "predict", run, generated, "-o", ".", cwd=tmp_path)
    for _ in range(2):
        harness.run_job([*HPCML, "predict", str(run), str(generated), "-o", str(tmp_path / "p.h5")], check=0)


def test_destinations_that_cannot_be(generated, tmp_path):
    words = ("classification", "--features", "500000")
    assert "is a directory" in refused(5, "generate", *words, "-o", ".", "--rows", "9", cwd=tmp_path)
    assert "larger than" in refused(5, "generate", *words, "-o", tmp_path / "x.h5", "--rows", 10**15)
    assert "is a directory" in refused(5, "rechunk", generated, ".", "--overwrite", cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["data.h5"]


def test_rows_are_added_to_conversions_alone(generated, tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    assert "no conversion" in refused(3, "convert", tmp_path / "t.csv", generated, "--append")
    assert "no such file" in refused(3, "convert", tmp_path / "t.csv", tmp_path / "none.h5", "--append")


def test_arguments_that_do_not_fit_an_index(generated, tmp_path):
    assert "changes a spec" in refused(2, "index", generated, "--set", "solver.tol=1")
    (tmp_path / "job.yaml").write_text("name: job\n")
    assert "names its data sets" in refused(2, "index", tmp_path / "job.yaml", "-x", "Z")
