"""Consensus ADMM: subproblems, rho, and a state that is keyed by subproblem."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import classification, model_objective, regression
from algorithms.test_rough_penalties import digest

from hpcml.algorithms.admm import ADMM
from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import Sharded, from_tree, gathered, to_tree
from hpcml.collectives import run_threads
from hpcml.data import ArrayDataset, own_runs

PROBLEM = classification(3000, 5, weighted=True)


def dataset(runs):
    """A data set whose ranks have uneven shares of the rows, the first one none."""

    def make(problem, comm):
        n = len(problem.y)
        cut = n * np.arange(comm.size + 1) ** 2 // comm.size**2
        cut[1] = 0 if comm.size > 1 else n
        part = slice(cut[comm.rank], cut[comm.rank + 1])
        X, y, weight = problem
        return ArrayDataset(X[part], y[part], weight[part], comm=comm, runs=runs)

    return make


RULES = Rules(300, 1e-8)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 64 rows."""
    monkeypatch.setattr("hpcml.data.partition._BLOCK_BYTES", 64 * 8 * 5)


def solved(comm, runs, loop=None, callback=lambda progress: None, **settings):
    objective, _ = model_objective(PROBLEM, "logistic_regression", comm, dataset(runs), **settings)
    return objective, run_solver(objective, ADMM(), RULES, loop=loop, callback=callback)


@pytest.mark.parametrize("runs", [1, 2, 7, None])
def test_the_same_bits_on_any_number_of_ranks(runs):
    def program(comm):
        objective, result = solved(comm, runs, alpha=0.01)
        return digest(result), result.converged, objective.data.partition.n_runs

    expected = run_threads(1, program)[0]
    assert expected[1]
    assert expected[2] == runs or runs is None
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("runs", [1, 7])
def test_the_optimum_does_not_follow_from_the_subproblems(runs):
    (objective, found), *_ = run_threads(1, lambda comm: solved(comm, runs, alpha=0.01))
    best = run_solver(objective, make_solver("newton"), Rules(50, 1e-12))
    assert found.objective == pytest.approx(best.objective, rel=1e-8)


def test_one_subproblem_is_newtons_method():
    (_, found), *_ = run_threads(1, lambda comm: solved(comm, 1, alpha=0.01))
    assert found.n_iter <= 20


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
@pytest.mark.parametrize("factor", [1e-5, 1e5])
@pytest.mark.parametrize("kind", ["linear_regression", "logistic_regression"])
def test_a_rho_that_is_far_off(kind, factor, l1_ratio):
    make = regression if kind == "linear_regression" else classification
    objective, _ = model_objective(make(2000, 8), kind, alpha=0.01, l1_ratio=l1_ratio)
    result = run_solver(objective, ADMM(rho=factor * ADMM.rho), Rules(200, 1e-6))
    assert result.converged, result.certificate


def test_subproblems_that_are_nothing_alike():
    """Rows sorted by a feature that is constant in each subproblem: one alone knows of each."""
    problem = classification(3000, 5)
    X = np.column_stack([problem.X, np.repeat(np.eye(10), 300, axis=0)])
    objective, _ = run_threads(
        1,
        lambda comm: model_objective(
            problem._replace(X=X, weight=np.ones(3000)),
            "logistic_regression",
            comm,
            dataset(10),
            alpha=1e-4,
            with_std=True,
        ),
    )[0]
    result = run_solver(objective, ADMM(), Rules(200, 1e-6))
    assert result.converged, result.certificate


def test_rho_may_stay():
    objective, _ = model_objective(regression(2000, 8), "linear_regression", alpha=0.01)
    rhos = []
    run_solver(
        objective,
        ADMM(rho=0.02, adapts=False),
        Rules(30, 1e-6),
        callback=lambda progress: rhos.append(progress.loop.solver.rho),
    )
    assert set(rhos) == {0.02}


@pytest.mark.parametrize("runs", [3, 7])
def test_a_checkpoint_resumes_on_other_ranks(runs):
    whole = digest(run_threads(1, lambda comm: solved(comm, runs, alpha=0.01))[0][1])

    def stopped(comm):
        trees = []

        def note(progress):
            if progress.loop.n_iter == 4:
                trees.append(to_tree(gathered(comm, progress.loop)))

        solved(comm, runs, callback=note, alpha=0.01)
        return trees[0]

    for size, later in ((1, 3), (3, 2), (5, 1)):
        tree = run_threads(size, stopped)[0]  # the first rank has the rows of all

        def resumed(comm, tree=tree):
            loop = from_tree(LoopState, tree)
            loop = loop._replace(solver=from_tree(ADMM.state_type, loop.solver))
            return digest(solved(comm, runs, loop=loop, alpha=0.01)[1])

        assert run_threads(later, resumed) == [whole] * later


def test_rows_of_my_runs():
    def program(comm):
        objective, _ = model_objective(PROBLEM, "logistic_regression", comm, dataset(4), alpha=0.1)
        runs = own_runs(objective.data)
        mine = Sharded(np.array([[10.0 * i, 1.0] for i in runs]).reshape(-1, 2))
        whole = gathered(comm, mine)
        everything = Sharded(np.array([[10.0 * i, 1.0] for i in range(4)]))
        assert (everything.own(runs, 4) == mine.rows).all()
        assert (mine.own(runs, 4) == mine.rows).all()
        return len(runs), whole.rows[:, 0].tolist()

    for size in (1, 2, 5):
        found = run_threads(size, program)
        assert sum(n for n, _ in found) == 4
        assert found[0][1] == [0.0, 10.0, 20.0, 30.0]
