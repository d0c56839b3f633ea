"""Newton's method: when a Hessian is computed, and when the last one will do."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import classification, model_objective

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.progressive import warm_start
from hpcml.algorithms.solver import Rules, run_solver

RULES = Rules(100, 1e-8)


@pytest.fixture
def evaluations(monkeypatch):
    """Whether each evaluation took the Hessian, and of how many rows."""
    taken, evaluate = [], Objective.evaluate

    def noted(self, w, *, columns=None, window=None):
        taken.append((columns is not None, self.data.n_samples))
        return evaluate(self, w, columns=columns, window=window)

    monkeypatch.setattr(Objective, "evaluate", noted)
    return taken


def logistic(n=4000, **settings):
    return model_objective(classification(n, 5), "logistic_regression", **{"alpha": 1e-4, **settings})[0]


def test_near_the_optimum_the_hessian_stays(evaluations):
    objective = logistic()
    result = run_solver(objective, NewtonCholesky(), RULES)
    assert result.converged
    with_hessian = [has for has, _ in evaluations]
    first_without = with_hessian.index(False)
    assert 2 <= first_without < result.n_iter + 1
    assert not any(with_hessian[first_without:])


def test_after_samples_no_hessian_of_all_rows_is_needed(evaluations):
    objective = logistic(60_000)
    warm = warm_start(objective, make_solver("newton"), RULES, wanted=True)
    result = run_solver(objective, make_solver("newton"), RULES, loop=warm.loop)
    assert result.converged
    assert {n for has, n in evaluations if has} == {stage.n_rows for stage in warm.stages}
    evaluations.clear()
    cold = run_solver(objective, make_solver("newton"), RULES)
    assert sum(has for has, _ in evaluations) >= 3
    assert result.n_iter <= cold.n_iter
    np.testing.assert_allclose(result.w, cold.w, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1e3, -1.0])
def test_a_hessian_that_misleads_is_computed_anew(scale):
    objective = logistic()
    solver = NewtonCholesky()
    start = solver.init(objective, objective.first_w)
    wrong = start._replace(hessian=scale * start.hessian, is_fresh=False, share=0.0)
    loop = run_solver(objective, solver, Rules(0, 1e-8)).loop._replace(solver=wrong)
    result = run_solver(objective, solver, RULES, loop=loop)
    assert result.converged
    np.testing.assert_allclose(result.w, run_solver(objective, solver, RULES).w, atol=1e-4)
