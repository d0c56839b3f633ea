"""Every rule of gradient descent's steps reaches the optimum, to the same bits anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import (
    Grid,
    as_csr,
    classification,
    counts,
    model_objective,
    plain_objective,
    regression,
    same,
)
from algorithms.test_solvers import copied, digest

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.gradient_descent import make_gradient_descent
from hpcml.algorithms.hessian_product import make_hessian_product
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.algorithms.step_rules import Constant, largest_curvature
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.errors import SpecError

EACH = pytest.mark.parametrize("step", ["bb", "armijo", "constant", 0.9])
KINDS = {"logistic_regression": classification, "linear_regression": regression}


@EACH
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_optimum(step, kind, make):
    objective, _ = model_objective(make(KINDS[kind](weighted=True)), kind, alpha=0.05)
    best = run_solver(objective, make_solver("newton"), Rules(50, 1e-12))
    result = run_solver(objective, make_gradient_descent(step), Rules(2000, 1e-9))
    assert result.converged, result.reason
    np.testing.assert_allclose(result.w, best.w, atol=1e-4)


@EACH
def test_the_same_bits_on_any_number_of_ranks(step):
    problem = classification(weighted=True)

    def program(comm):
        objective, _ = model_objective(problem, "logistic_regression", comm, alpha=0.01)
        return digest(run_solver(objective, make_gradient_descent(step), Rules(30, 1e-9)))

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5, 9):
        assert run_threads(size, program) == [expected] * size


@EACH
def test_resume_from_any_iteration(step):
    objective, _ = model_objective(classification(), "logistic_regression", alpha=0.05)
    solver, trees = make_gradient_descent(step), []
    whole = run_solver(objective, solver, Rules(20, 1e-9), callback=lambda p: trees.append(to_tree(p.loop)))
    for tree in trees[::4]:
        loop = from_tree(LoopState, copied(tree))
        loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
        assert digest(run_solver(objective, solver, Rules(20, 1e-9), loop=loop)) == digest(whole)


@EACH
def test_most_iterations_are_one_message(step):
    counting = CountingCommunicator(SerialCommunicator())
    problem = classification()
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.05)
    objective = same(objective, data=Grid(problem, counting))
    taken = []

    def note(progress):
        taken.append(counting.calls["allreduce"])
        counting.calls.clear()

    run_solver(objective, make_gradient_descent(step), Rules(60, 1e-6), callback=note)
    assert taken[0] <= 2 + (31 if step == "constant" else 0)
    assert np.median(taken[1:]) == 1
    if step not in ("bb", "armijo"):
        assert set(taken[1:]) == {1}


@pytest.mark.parametrize("step", ["armijo", "constant"])
def test_the_objective_never_rises(step):
    objective, _ = model_objective(classification(), "logistic_regression", alpha=0.01)
    values = []
    run_solver(
        objective, make_gradient_descent(step), Rules(50, 1e-9), callback=lambda p: values.append(p.objective)
    )
    assert (np.diff(values) <= 1e-12).all()


@pytest.mark.parametrize("intercept", [True, False])
def test_the_largest_curvature(intercept):
    """Of the least squares whose Hessian is that of the largest curvature, by NumPy."""
    objective = plain_objective(classification(weighted=True), "logistic_regression", intercept=intercept)
    found = largest_curvature(objective, objective.evaluate(objective.first_w).gradient)
    at_zero = make_hessian_product(objective, np.zeros(objective.n_parameters))  # where the curvature is 1/4
    H = np.column_stack([at_zero(column) for column in np.eye(objective.n_parameters)])
    exact = np.linalg.eigvalsh(H)[-1]
    assert 0.97 * exact <= found <= 1.02 * exact


def test_a_constant_step_that_is_too_long_ends():
    objective, _ = model_objective(regression(), "linear_regression", alpha=0.01)
    with np.errstate(over="ignore", invalid="ignore"):
        result = run_solver(objective, make_gradient_descent(1e6), Rules(500, 1e-6))
    assert not result.converged
    assert result.reason == "the objective is not finite"


def test_a_curvature_without_a_bound_is_refused():
    objective, _ = model_objective(counts(), "poisson_regression", alpha=0.01)
    with pytest.raises(SpecError, match="constant step needs a loss of bounded curvature"):
        run_solver(objective, make_gradient_descent("constant"), Rules(5, 1e-6))


def test_a_start_that_is_the_optimum():
    problem = classification()._replace(y=np.zeros(150))
    objective, _ = model_objective(problem, "linear_regression", alpha=0.1)
    for step in ("bb", "armijo", "constant", 0.5):
        assert run_solver(objective, make_gradient_descent(step), Rules(5, 1e-6)).n_iter == 0


def test_names():
    assert make_gradient_descent(0.25).rule == Constant(0.25)
    assert make_gradient_descent() == make_gradient_descent("bb") == make_solver("gd")
