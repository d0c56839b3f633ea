"""Intercepts of several classes are best together, from wherever they start."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import SERIAL, Grid, model_objective, same
from algorithms.test_several_classes import KIND, classes_of
from scipy.optimize import minimize

from hpcml.algorithms.class_intercepts import with_best_intercepts
from hpcml.collectives import CountingCommunicator, run_threads


def start(objective, intercepts, scale=0.5):
    weights = scale * np.random.default_rng(0).normal(size=objective.n_weights)
    return np.append(weights, intercepts)


@pytest.mark.parametrize("far", [[0, 0, 0, 0], [1e3, 0, 0, -1e3], [-1e5, 20, 1e4, 3], [1e4, 1e4, 0, 0]])
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_the_slopes_vanish(far, scale):
    objective, _ = model_objective(classes_of(weighted=True), KIND, alpha=0.1)
    w = with_best_intercepts(objective, start(objective, far, scale))
    point = objective.evaluate(w)
    assert np.abs(point.gradient[20:]).max() < 1e-10
    best = minimize(lambda b: objective.evaluate(np.append(w[:20], b)).value, w[20:], method="BFGS")
    assert point.value <= best.fun + 1e-9


def test_a_class_that_weighs_nothing_becomes_impossible():
    problem = classes_of()
    objective, _ = model_objective(problem, KIND, alpha=0.1)
    light = same(objective, data=Grid(problem._replace(weight=(problem.y != 3).astype(float))))
    light = same(light, total_weight=float((problem.y != 3).sum()))
    w = with_best_intercepts(light, start(objective, np.zeros(4)))
    assert np.abs(light.evaluate(w).gradient[20:]).max() < 1e-12
    assert np.isfinite(w).all()


def test_the_same_bits_on_any_number_of_ranks():
    problem = classes_of(weighted=True)

    def program(comm):
        objective, _ = model_objective(problem, KIND, comm, alpha=0.1)
        return with_best_intercepts(objective, start(objective, [5.0, 0, 0, 1])).tobytes()

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5, 9):
        assert run_threads(size, program) == [expected] * size


def test_messages_and_numbers_that_are_none():
    problem = classes_of()
    objective, _ = model_objective(problem, KIND, alpha=0.1)
    counting = CountingCommunicator(SERIAL)
    counted = same(objective, data=Grid(problem, counting))
    with_best_intercepts(counted, start(objective, np.zeros(4), 0.1))
    assert counting.calls["allreduce"] <= 14
    counting.calls.clear()
    with np.errstate(invalid="ignore"):
        with_best_intercepts(counted, np.full(24, np.nan))
    assert counting.calls["allreduce"] <= 4
