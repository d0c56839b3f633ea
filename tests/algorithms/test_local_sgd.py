"""A start by SGD in each shard: near the optimum, the same bits everywhere, and only a start."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, as_csr, classification, in_memory, model_objective, regression
from algorithms.test_solvers import digest

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.local_sgd import local_sgd
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.errors import SpecError

KINDS = pytest.mark.parametrize("kind", ["logistic_regression", "linear_regression", "linear_svc"])
FORMS = pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
FULL = {"alpha": 0.01}


def problem_of(kind, n=4000):
    return regression(n, weighted=True) if kind == "linear_regression" else classification(n, weighted=True)


@FORMS
@KINDS
@pytest.mark.parametrize("intercept", [True, False])
def test_the_start_is_near_the_optimum(kind, make, intercept):
    problem = make(problem_of(kind))
    # Rows of a shard of 1,000 are many against 7 weights.
    objective, _ = model_objective(
        problem, kind, dataset=lambda p, comm: Grid(p, comm, 1000, 100), fit_intercept=intercept, **FULL
    )
    at_zero = objective.evaluate(objective.first_w).value
    w = local_sgd(objective)
    best = run_solver(objective, make_solver("newton"), Rules(50, 1e-10)).objective
    assert objective.evaluate(w).value - best <= 0.02 * (at_zero - best)


@FORMS
@pytest.mark.parametrize("dataset", [Grid, in_memory])
def test_the_same_bits_on_any_number_of_ranks(make, dataset):
    problem = make(classification(700, weighted=True))

    def program(comm):
        objective, _ = model_objective(problem, "logistic_regression", comm, dataset, **FULL)
        w = local_sgd(objective, seed=3)
        return w.tobytes(), digest(run_solver(objective, make_solver("lbfgs"), Rules(50, 1e-8), w=w))

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


def test_the_same_answer_from_there():
    objective, _ = model_objective(problem_of("logistic_regression"), "logistic_regression", **FULL)
    plain = run_solver(objective, make_solver("nesterov"), Rules(500, 1e-10))
    w = local_sgd(objective)
    begun = run_solver(objective, make_solver("nesterov"), Rules(500, 1e-10), w=w)
    assert begun.converged
    above = [objective.evaluate(at).value - plain.objective for at in (w, objective.first_w)]
    assert above[0] < 0.5 * above[1]
    np.testing.assert_allclose(begun.w, plain.w, atol=1e-4)


def test_one_pass_and_few_messages():
    counting = CountingCommunicator(SerialCommunicator())
    objective, _ = model_objective(classification(2000), "logistic_regression", counting, in_memory, **FULL)
    counting.calls.clear()
    local_sgd(objective)
    assert counting.calls["allreduce"] <= 2 + 2 * 10


def test_numbers_that_overflow_start_at_zero():
    problem = classification()
    huge = problem._replace(y=problem.y * 1e308)
    objective, _ = model_objective(huge, "linear_regression", **FULL)
    with np.errstate(all="ignore"):
        assert np.array_equal(local_sgd(objective), objective.first_w)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("poisson_regression", FULL, "bounded curvature, and the loss is poisson; take zero"),
        ("logistic_regression", {"alpha": 0.1, "l1_ratio": 1.0}, "a penalty with a gradient"),
        ("logistic_regression", {"alpha": 0.1, "lower": 0.0}, "a penalty with a gradient"),
    ],
)
def test_what_it_is_not_for(kind, settings, sentence):
    objective, _ = model_objective(classification(), kind, **settings)
    with pytest.raises(SpecError, match=sentence):
        local_sgd(objective)
