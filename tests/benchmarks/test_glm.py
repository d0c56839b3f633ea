"""The benchmark of generalised linear models runs, and its own formulas are right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


def ran(*arguments):
    argv = [sys.executable, str(BENCHMARKS / "glm.py"), "--scale", "0", "--runs", "1", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fit_and_its_objective(tmp_path):
    shown = ran(
        "--workloads", "poisson", "--peers", "hpcml", "glum", "--cores", "1", "--directory", str(tmp_path)
    )
    assert "poisson: 2,000 x 50 float64, 1 core" in shown
    assert "glum, irls-ls 0.001: not available: not installed" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("  hpcml  ")]
    assert "missed" not in line
    assert not list(tmp_path.iterdir())


def test_out_of_core(tmp_path):
    shown = ran("--workloads", "out_of_core", "--cores", "2", "--directory", str(tmp_path))
    assert "out of core, 2 ranks: pass" in shown
    assert "x compute + preadv (goal 1.15)" in shown


@pytest.mark.parametrize("name", ["logistic_l1", "logistic_csr", "softmax"])
def test_the_objective_is_scikit_learns(monkeypatch, tmp_path, name):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from glm_workloads import objective, write_workload
    from peers.contest import load

    write_workload(name, 0.0, tmp_path)
    problem = load(tmp_path)
    k = 10 if name == "softmax" else 1
    rng = np.random.default_rng(0)
    coef, intercept = rng.normal(size=(k, problem.X.shape[1])) / 9, rng.normal(size=k)
    z = problem.X @ coef.T + intercept
    p = softmax(z, axis=1) if k > 1 else expit(z[:, 0])
    size = np.abs(coef).sum() if problem.l1_ratio else 0.5 * np.sum(coef**2)
    expected = log_loss(problem.y, p) + problem.alpha * size
    assert objective(problem, coef, intercept) == pytest.approx(expected, rel=1e-9)
    parts = [load(tmp_path, rank, 3) for rank in range(3)]
    assert [part.X.shape[0] for part in parts] == [666, 667, 667]
    assert sum(part.X.sum() for part in parts) == pytest.approx(problem.X.sum(), rel=1e-9)
