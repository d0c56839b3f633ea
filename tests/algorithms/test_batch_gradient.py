"""Gradients of batches add up to that of all rows, and the largest curvature is found."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import as_csr, classification, model_objective, regression

from hpcml.algorithms.batch_gradient import batch_estimate, batch_gradient, largest_curvature, prox_step
from hpcml.algorithms.batches import make_batches
from hpcml.collectives import run_threads

NO_WINDOW = np.zeros(0, np.int64)
CASES = pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])


def points(n):
    rng = np.random.default_rng(5)
    return rng.normal(size=n), rng.normal(size=n)


@CASES
def test_the_mean_of_an_epoch_is_the_gradient(make):
    objective, _ = model_objective(make(classification(weighted=True)), "logistic_regression", alpha=0.05)
    w, v = points(objective.n_parameters)
    batches = make_batches(objective.data, 30)
    assert batches.n == 5
    parts = [batch_gradient(objective, batch, 5, w, NO_WINDOW)[0] for batch in batches.epoch(1)]
    here, there = (objective.evaluate(x).gradient for x in (w, v))
    np.testing.assert_allclose(np.mean(parts, axis=0), here, atol=1e-13)
    assert np.ptp(parts, axis=0).min() > 1e-3
    changes = [batch_estimate(objective, batch, 5, w, v, NO_WINDOW)[0] for batch in batches.epoch(1)]
    np.testing.assert_allclose(np.mean(changes, axis=0), here - there, atol=1e-13)


@CASES
@pytest.mark.parametrize("kind", ["linear_regression", "logistic_regression", "linear_svc"])
def test_the_largest_curvature(make, kind):
    problem = make(regression(4000) if kind == "linear_regression" else classification(4000))
    objective, _ = model_objective(problem, kind, alpha=0.3)
    X = problem.X if isinstance(problem.X, np.ndarray) else problem.X.toarray()
    U = np.column_stack([(X - objective.scaling.mean) / objective.scaling.scale, np.ones(len(X))])
    c = {"linear_regression": 1.0, "logistic_regression": 0.25, "linear_svc": 2.0}[kind]
    H = c * U.T @ U / len(U) + np.diag(np.append(objective.penalty.l2, 0.0))
    found = largest_curvature(objective, make_batches(objective.data, 500))
    assert 0.95 <= found / np.linalg.eigvalsh(H)[-1] <= 1.5  # a batch of 500 rows bends more than all rows


def test_the_same_bits_on_any_number_of_ranks():
    def program(comm):
        objective, _ = model_objective(classification(), "logistic_regression", comm, alpha=0.05)
        w, v = points(objective.n_parameters)
        batches = make_batches(objective.data, 30, seed=9)
        found = [batch_estimate(objective, batch, 5, w, v, NO_WINDOW)[0] for batch in batches.epoch(4)]
        return np.array([*np.ravel(found), largest_curvature(objective, batches)]).tobytes()

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


def test_the_step_meets_bounds_and_leaves_the_intercept():
    problem = classification()
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.1, l1_ratio=1.0, lower=0.0)
    w = np.append(np.zeros(6), 1.0)
    gradient = np.append(np.array([-9.0, 9.0, -1e-3, 0.0, -9.0, 9.0]), 2.0)
    moved = prox_step(objective, w, gradient, 0.5)
    assert moved[6] == 0.0
    assert (moved[[1, 2, 3, 5]] == 0.0).all()
    np.testing.assert_allclose(moved[[0, 4]], 4.5 - 0.5 * objective.penalty.l1[[0, 4]])


def test_rows_of_zeros_have_no_curvature():
    problem = classification()
    nothing = problem._replace(X=np.zeros_like(problem.X), y=problem.y)
    objective, _ = model_objective(nothing, "logistic_regression", alpha=0.0, fit_intercept=False)
    assert largest_curvature(objective, make_batches(objective.data)) == 1.0
