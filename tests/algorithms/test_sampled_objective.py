"""Samples for Hessians: when there are some, the same bits everywhere, and proximal Newton with them."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import SERIAL, Grid, Problem, model_objective, same
from algorithms.test_solvers import digest

from hpcml.algorithms import sampled_objective
from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.sampled_objective import for_hessians
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import run_threads

N, D = 32 * 640, 12  # 640 shards, of which 40 with 1,280 rows are the sample
RULES = Rules(60, 1e-7)


def sparse_truth(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D))
    y = (X @ (rng.normal(size=D) * (np.arange(D) < 4)) + rng.logistic(size=N) > 0).astype(float)
    return Problem(X, y, rng.random(N))


ROWS = sparse_truth()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sampled_objective, "_LEAST_NUMBERS", 1000)


def lasso(problem=ROWS, comm=SERIAL, **settings):
    settings = {"alpha": 0.01, "l1_ratio": 1.0, **settings}
    return model_objective(problem, "logistic_regression", comm, **settings)[0]


def test_the_hessian_of_a_sample_is_near_that_of_all_rows():
    objective = lasso()
    sample = for_hessians(objective, D)
    assert sample.data.n_samples == 1280
    w = np.linspace(-1, 1, D + 1)
    near, whole = (one.evaluate(w, columns=one.all_columns).hessian for one in (sample, objective))
    values = np.linalg.eigvals(np.linalg.solve(whole, near)).real
    assert np.abs(values - 1).max() < 0.4
    assert (near != whole).any()


def test_where_there_is_no_sample(monkeypatch):
    objective = lasso()
    assert for_hessians(objective, 20) is not None
    assert for_hessians(objective, 21) is None  # 1,280 rows are 64 for each of 20 columns
    few = same(objective, data=Grid(ROWS, shard_rows=512))
    assert for_hessians(few, D) is None  # 40 shards
    taken = {i for block in for_hessians(objective, D).data.blocks() for i in block.index.tolist()}
    weightless = np.where(np.isin(np.arange(N), list(taken)), 0.0, 1.0)
    assert for_hessians(same(objective, data=Grid(Problem(ROWS.X, ROWS.y, weightless))), D) is None
    monkeypatch.setattr(sampled_objective, "_LEAST_NUMBERS", N * D + 1)
    assert for_hessians(objective, D) is None


def test_proximal_newton_takes_few_hessians_of_all_rows(monkeypatch):
    taken, evaluate = [], Objective.evaluate

    def noted(self, w, *, columns=None, window=None):
        taken.append((columns is not None, self.data.n_samples))
        return evaluate(self, w, columns=columns, window=window)

    monkeypatch.setattr(Objective, "evaluate", noted)
    result = run_solver(lasso(), make_solver("prox_newton"), RULES)
    assert result.converged
    assert 2 <= taken.count((True, 1280)) <= 3
    assert taken.count((True, N)) <= 1
    monkeypatch.setattr(sampled_objective, "_LEAST_NUMBERS", N * D + 1)
    plain = run_solver(lasso(), make_solver("prox_newton"), RULES)
    np.testing.assert_allclose(result.w, plain.w, atol=1e-4)
    assert ((result.w != 0) == (plain.w != 0)).all()


def test_the_same_bits_on_any_number_of_ranks():
    def program(comm):
        return digest(run_solver(lasso(comm=comm), make_solver("prox_newton"), RULES))

    expected = program(SERIAL)
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


def test_resume_from_any_iteration():
    objective, solver, trees = lasso(), make_solver("prox_newton"), []
    whole = run_solver(objective, solver, RULES, callback=lambda p: trees.append(to_tree(p.loop)))
    for tree in trees:
        loop = from_tree(LoopState, tree)
        loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
        assert digest(run_solver(objective, solver, RULES, loop=loop)) == digest(whole)


@pytest.mark.parametrize("bounds", [{}, {"lower": 0.0}, {"lower": -0.2, "upper": 0.2}])
def test_a_sample_that_misleads_does_no_harm(bounds):
    """In the sample one column hardly varies, and another is copied."""
    taken = [i for block in for_hessians(lasso(), D).data.blocks() for i in block.index.tolist()]
    X = ROWS.X.copy()
    X[taken, 0] *= 1e-6
    X[taken, 1] = X[taken, 2]
    problem = Problem(X, ROWS.y, ROWS.weight)
    result = run_solver(lasso(problem, **bounds), make_solver("prox_newton"), RULES)
    assert result.converged
    cold = run_solver(lasso(problem, **bounds), make_solver("fista"), Rules(5000, 1e-7))
    np.testing.assert_allclose(result.objective, cold.objective, rtol=1e-6)
