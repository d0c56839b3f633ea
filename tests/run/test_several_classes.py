"""The job on handwritten digits: ten classes from a table to predictions, on any number of ranks."""

from __future__ import annotations

import h5py
import harness
import numpy as np
import pytest
import small
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from hpcml.estimators.loading import load_model
from hpcml.io.model import read_model
from hpcml.io.write.predictions_read import read_predictions

JOB = harness.ROOT / "jobs" / "softmax_digits.yaml"
PLACES = {"1": (1, ()), "3": (3, ()), "streamed": (1, ("data.cache=none",))}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The job's run directory on several numbers of ranks, and streamed."""
    folder = tmp_path_factory.mktemp("digits")
    for name, (n, more) in PLACES.items():
        run = ["run", JOB, f"data.path={folder / 'digits.h5'}", f"output.dir={folder / name}", *more]
        where = [folder / name, folder / "digits.h5", "--part", "test"]
        predict = ["predict", *where, "-o", folder / f"{name}.h5"]
        lines = [run, predict, ["evaluate", *where]]
        for line, ranks in zip(
            lines, small.commands(n, lines, folder / f"on{name}", timeout=120), strict=True
        ):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
    return folder


def test_the_same_bits_everywhere(ran):
    results = [small.result_of(ran / name) for name in PLACES]
    for name in ("model_digest", "objective", "certificate", "metrics", "n_iter"):
        assert len({str(result[name]) for result in results}) == 1, name
    assert results[0]["converged"]
    assert results[0]["certificate"] <= 1e-8
    assert results[0]["certificate_kind"] == "duality_gap"
    assert len({(ran / name / "predictions.h5").read_bytes() for name in PLACES}) == 1


def test_it_is_scikit_learns_model(ran):
    X, y = load_digits(return_X_y=True)
    with h5py.File(ran / "digits.h5") as file:
        assert np.array_equal(file["X"][()], X)
        assert np.array_equal(file["y"][()], y)
    found = read_predictions(ran / "1" / "predictions.h5").columns
    testing = found["row"]
    training = np.setdiff1d(np.arange(len(y)), testing)
    scaler = StandardScaler().fit(X[training])
    twin = LogisticRegression(C=0.1, tol=1e-11, max_iter=10**4).fit(
        scaler.transform(X[training]), y[training]
    )
    model = read_model(ran / "1" / "model.h5").arrays
    assert model["coef"].shape == (10, 64)
    np.testing.assert_allclose(model["coef"] * scaler.scale_, twin.coef_, atol=1e-4)
    p = twin.predict_proba(scaler.transform(X[testing]))
    np.testing.assert_allclose(found["probability"], p, atol=1e-4)
    assert np.array_equal(found["prediction"], found["probability"].argmax(axis=1))
    metrics = small.result_of(ran / "1")["metrics"]
    assert metrics["accuracy"] == (found["prediction"] == y[testing]).mean()
    assert metrics["log_loss"] == pytest.approx(log_loss(y[testing], found["probability"]), rel=1e-10)
    auc = roc_auc_score(y[testing], found["probability"], multi_class="ovr")
    assert metrics["roc_auc"] == pytest.approx(auc, rel=1e-9)


def test_the_verb_predict_and_the_estimator(ran):
    X, _ = load_digits(return_X_y=True)
    of_run, of_verb = (read_predictions(ran / name).columns for name in ("1/predictions.h5", "1.h5"))
    for name in ("row", "prediction", "probability"):
        assert np.array_equal(of_run[name], of_verb[name])
    model = load_model(ran / "1")
    rows = of_run["row"]
    assert np.array_equal(model.predict(X[rows]), of_run["prediction"])
    z = model.decision_function(X[rows])
    np.testing.assert_allclose(model.predict_log_proba(X[rows]), z - logsumexp(z, axis=1, keepdims=True))
    np.testing.assert_allclose(model.C, 0.1)


def test_a_solver_for_two_classes_is_refused(ran, tmp_path):
    where = [f"data.path={ran / 'digits.h5'}", f"output.dir={tmp_path / 'run'}"]
    lines = [["run", JOB, *where, f"solver.name={name}"] for name in ("newton", "admm")]
    for ranks in small.commands(2, lines, tmp_path / "on2", timeout=60):
        assert {rank.code for rank in ranks} == {2}
        assert "does not take the softmax loss of 10 classes" in ranks[0].stderr
