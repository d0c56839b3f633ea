"""Metrics are scikit-learn's numbers, over any split."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, Problem
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from hpcml.algorithms import metrics
from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.metrics import METRICS, evaluate, roc_auc
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.errors import DataError

SERIAL = SerialCommunicator()
CLASSIFIER = LinearModel(
    "logistic_regression", np.array([1.0, -2.0]), 0.5, np.array([-1.0, 4.0]), np.zeros(2), np.ones(2)
)
REGRESSOR = CLASSIFIER._replace(kind="linear_regression", classes=np.zeros(0))


def rows(n=500, labels=(-1.0, 4.0)):
    rng = np.random.default_rng(0)
    X = rng.integers(-3, 4, (n, 2)).astype(float)  # ties in the scores
    y = np.where(X @ [1, -2] + rng.normal(size=n) * 3 > 0, labels[1], labels[0])
    return Problem(X, y, rng.random(n))


def on_ranks(size, problem, model, names):
    def program(comm):
        return evaluate(Grid(problem, comm), model, names)

    found = run_threads(size, program)
    assert all(scores == found[0] for scores in found)
    return found[0]


@pytest.mark.parametrize("size", [1, 3, 5, 20])
def test_classification(size):
    problem = rows()
    scores = on_ranks(size, problem, CLASSIFIER, ["accuracy", "log_loss", "roc_auc"])
    z = problem.X @ CLASSIFIER.coef + 0.5
    p = 1 / (1 + np.exp(-z))
    assert scores.n_rows == 500
    assert scores.metrics == {
        "accuracy": reference.accuracy_score(problem.y, np.where(z > 0, 4.0, -1.0)),
        "log_loss": pytest.approx(reference.log_loss(problem.y, p), rel=1e-12),
        "roc_auc": pytest.approx(reference.roc_auc_score(problem.y, z), rel=1e-14),
    }
    assert scores.notes == {}


@pytest.mark.parametrize("size", [1, 3, 20])
def test_regression(size):
    problem = rows()._replace(y=np.random.default_rng(1).normal(size=500) * 3)
    z = problem.X @ REGRESSOR.coef + 0.5
    found = on_ranks(size, problem, REGRESSOR, ["r2", "rmse"]).metrics
    assert found["r2"] == pytest.approx(reference.r2_score(problem.y, z), rel=1e-12)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(problem.y, z), rel=1e-12)


def test_the_same_bits_for_any_split():
    problem = rows()
    names = [name for name in METRICS if name not in ("r2", "rmse")]
    expected = on_ranks(1, problem, CLASSIFIER, names)
    assert all(on_ranks(size, problem, CLASSIFIER, names) == expected for size in (2, 5, 20))


@pytest.mark.parametrize("label", [0.1, 3.0, 1e9 / 3])
def test_r2_of_a_constant(label):
    problem = Problem(np.ones((97, 2)), np.full(97, label))
    flat = REGRESSOR._replace(coef=np.zeros(2))
    assert on_ranks(2, problem, flat._replace(intercept=label), ["r2"]).metrics["r2"] == 1.0
    assert on_ranks(2, problem, flat._replace(intercept=label + 1), ["r2"]).metrics["r2"] == 0.0


def pairs(scores, positive):
    """The definition: every pair of a positive and a negative row."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return ((above > 0).sum() + 0.5 * (above == 0).sum()) / above.size


auc_rows = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60).filter(
    lambda found: len({label for _, label in found}) == 2
)


@given(found=auc_rows, size=st.integers(1, 4))
def test_auc_counts_pairs(found, size):
    scores = np.array([score for score, _ in found], float) / 3
    positive = np.array([label for _, label in found])
    expected = pairs(scores, positive)
    cuts = np.linspace(0, len(scores), size + 1).astype(int)

    def program(comm):
        part = slice(cuts[comm.rank], cuts[comm.rank + 1])
        return roc_auc(comm, scores[part], positive[part], len(scores))

    assert run_threads(size, program) == [(pytest.approx(expected, abs=1e-15), None)] * size


@pytest.mark.parametrize("spread", [1e-7, 1.0, 60.0])
def test_auc_of_a_histogram_is_within_its_bound(monkeypatch, spread):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=3000) * spread
    positive = rng.random(3000) < 1 / (1 + np.exp(-scores / spread))
    exact, none = roc_auc(SERIAL, scores, positive, 3000)
    assert none is None
    monkeypatch.setattr(metrics, "GATHERED_ROWS", 2999)

    def program(comm):
        return roc_auc(comm, scores[comm.rank :: 3], positive[comm.rank :: 3], 3000)

    binned = run_threads(3, program)
    value, bound = binned[0]
    assert binned == [binned[0]] * 3
    assert abs(value - exact) <= bound
    assert bound == pytest.approx(0.5, abs=0.35) if spread < 1e-6 else bound < 0.3
    scores_of = evaluate(Grid(rows(3000)), CLASSIFIER, ["roc_auc"])
    assert "histogram" in scores_of.notes["roc_auc"]


def refused(problem, model, names, size=3):
    def program(comm):
        with pytest.raises(DataError) as caught:
            evaluate(Grid(problem, comm), model, names)
        return str(caught.value), caught.value.on_all_ranks

    found = run_threads(size, program)
    assert found == [found[0]] * size
    assert found[0][1]
    return found[0][0]


def test_what_is_refused_on_every_rank():
    problem = rows()
    one = problem._replace(y=np.full(500, 4.0))
    assert refused(one, CLASSIFIER, ["roc_auc"]) == "ROC AUC needs rows of both classes"
    other = problem.y.copy()
    other[-1] = 7.0
    assert "label 7 is not a class" in refused(problem._replace(y=other), CLASSIFIER, ["accuracy"])
    empty = Problem(np.zeros((0, 2)), np.zeros(0))
    assert refused(empty, REGRESSOR, ["r2"]) == "there are no rows to evaluate on"
    assert "no y" in refused(problem._replace(y=None), REGRESSOR, ["r2"])


def several(n=400, k=4):
    rng = np.random.default_rng(0)
    X = rng.integers(-3, 4, (n, 2)).astype(float)
    z = X @ SEVERAL.coef[:k].T + SEVERAL.intercept[:k]
    return Problem(X, SEVERAL.classes[(z + rng.gumbel(size=z.shape)).argmax(axis=1)])


SEVERAL = LinearModel(
    "logistic_regression",
    np.array([[1.0, -2.0], [0.0, 0.5], [-1.0, 1.0], [0.3, 0.0]]),
    np.array([0.5, 0.0, -0.5, 0.0]),
    np.array([-1.0, 4.0, 5.0, 7.0]),
    np.zeros(2),
    np.ones(2),
)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_several_classes(size):
    problem = several()
    scores = on_ranks(size, problem, SEVERAL, ["accuracy", "log_loss", "roc_auc"])
    z = problem.X @ SEVERAL.coef.T + SEVERAL.intercept
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert scores.n_rows == 400
    assert scores.notes == {}
    assert scores.metrics == {
        "accuracy": reference.accuracy_score(problem.y, SEVERAL.classes[z.argmax(axis=1)]),
        "log_loss": pytest.approx(reference.log_loss(problem.y, p), rel=1e-12),
        "roc_auc": pytest.approx(reference.roc_auc_score(problem.y, p, multi_class="ovr"), abs=1e-12),
    }


def test_classes_that_no_row_has():
    problem = several(k=3)
    scores = on_ranks(3, problem, SEVERAL, ["roc_auc"])
    z = problem.X @ SEVERAL.coef.T + SEVERAL.intercept
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    areas = [reference.roc_auc_score(problem.y == SEVERAL.classes[c], p[:, c]) for c in range(3)]
    assert scores.metrics["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert scores.notes["roc_auc"].startswith("the mean over 3 of 4 classes")


def test_one_of_several_classes_alone():
    problem = several()
    with pytest.raises(DataError, match="needs rows of both classes"):
        on_ranks(2, problem._replace(y=np.full(400, 4.0)), SEVERAL, ["roc_auc"])
