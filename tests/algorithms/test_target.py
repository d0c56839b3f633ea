"""What a loss learns of the labels: their range, mean and least loss, the same on every rank."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import PROBLEMS, SERIAL, Grid, loss_of, model_objective

from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.target import NO_TARGET, look_at_target
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.errors import DataError

LOG_LINK = [kind for kind in PROBLEMS if loss_of(kind).has_log_link]


@pytest.mark.parametrize("kind", LOG_LINK)
def test_weighted_means_to_the_same_bits(kind):
    problem = PROBLEMS[kind](weighted=True)
    loss = loss_of(kind)

    def program(comm):
        return look_at_target(Grid(problem, comm), loss)

    expected = program(SERIAL)
    assert expected.mean == pytest.approx(np.average(problem.y, weights=problem.weight), rel=1e-14)
    assert expected.least == pytest.approx(
        np.average(loss.least(problem.y), weights=problem.weight), rel=1e-13
    )
    for size in (2, 3, 5, 7):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("kind", ["logistic_regression", "linear_regression", "linear_svc"])
def test_other_losses_need_no_pass(kind):
    counting = CountingCommunicator(SERIAL)
    assert look_at_target(Grid(PROBLEMS[kind](), counting), loss_of(kind)) == NO_TARGET
    assert not counting.calls


@pytest.mark.parametrize(
    ("kind", "bad", "sentence"),
    [
        ("poisson_regression", -1.0, "t: row 140 is -1, but the poisson loss takes labels at least 0"),
        ("gamma_regression", 0.0, "t: row 140 is 0, but the gamma loss takes labels above 0"),
        ("tweedie_regression", -0.5, "t: row 140 is -0.5, but the tweedie loss takes labels at least 0"),
    ],
)
def test_a_label_out_of_range_on_one_rank_alone(kind, bad, sentence):
    problem = PROBLEMS[kind]()
    problem.y[140] = bad

    def program(comm):
        with pytest.raises(DataError) as caught:
            look_at_target(Grid(problem, comm), loss_of(kind), "t")
        return str(caught.value)

    for size in (1, 2, 3, 7):
        assert run_threads(size, program, timeout=20) == [sentence] * size


def test_all_labels_zero():
    problem = PROBLEMS["poisson_regression"]()
    problem.y[:] = 0.0
    with pytest.raises(DataError, match="y is 0 wherever it weighs"):
        model_objective(problem, "poisson_regression", alpha=0.1)
    objective, _ = model_objective(problem, "poisson_regression", alpha=0.1, fit_intercept=False)
    assert run_solver(objective, NewtonCholesky(), Rules(50, 1e-9)).converged


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("kind", LOG_LINK)
def test_equal_labels_have_the_start_as_their_optimum(kind, alpha):
    problem = PROBLEMS[kind]()
    problem.y[:] = 3.7
    objective, _ = model_objective(problem, kind, alpha=alpha)
    result = run_solver(objective, NewtonCholesky(), Rules(50, 1e-6))
    assert result.converged, result.reason
    coef, intercept = objective.to_raw(result.w)
    assert np.abs(coef).max() < 1e-9
    assert intercept == pytest.approx(np.log(3.7), abs=1e-9)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
@pytest.mark.parametrize("kind", LOG_LINK)
def test_the_unit_of_the_labels_only_moves_the_intercept(kind, unit):
    """tol is relative to the deviance of the mean: a fit in grams is as good as one in tonnes."""
    problem = PROBLEMS[kind]()
    answers = []
    for factor in (1.0, unit):
        scaled = problem._replace(y=problem.y * factor)
        objective, _ = model_objective(scaled, kind, alpha=0.0)
        result = run_solver(objective, NewtonCholesky(), Rules(100, 1e-9))
        assert result.converged, result.reason
        answers.append(objective.to_raw(result.w))
    np.testing.assert_allclose(answers[0][0], answers[1][0], atol=1e-7)
    assert answers[1][1] - answers[0][1] == pytest.approx(np.log(unit), abs=1e-7)
