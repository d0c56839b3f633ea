"""Consensus ADMM: the textbook's, from sums alone; few sweeps, rho, relaxation, starts that go uphill."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from algorithms.problems import (
    PROBLEMS,
    classification,
    in_memory,
    model_objective,
    naive,
    plain_objective,
    regression,
)
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


def textbook(parts, kind, alpha, rho, relaxation, n_sweeps):
    """Yield the consensus after each sweep: every subproblem solves equations and keeps its dual."""
    total = sum(len(part.y) for part in parts)
    d = parts[0].X.shape[1]
    strength = np.append(np.full(d, alpha), 0.0)
    z, ys = np.zeros(d + 1), None
    for _ in range(n_sweeps):
        found = [naive(part, kind, 0.0, z[:d], z[d]) for part in parts]
        shares = [len(part.y) / total for part in parts]
        slopes = [share * g for share, (_, g, _) in zip(shares, found, strict=True)]
        metrics = [share * M for share, (_, _, M) in zip(shares, found, strict=True)]
        ys = [-g for g in slopes] if ys is None else ys
        # The model of f_k + y_k . x + rho / 2 ||x - z||^2 at z, then its minimum.
        models = list(zip(slopes, ys, metrics, strict=True))
        xs = [z - np.linalg.solve((1 + rho) * M, g + y) for g, y, M in models]
        ys = [y + rho * M @ (x - z) for x, y, M in zip(xs, ys, metrics, strict=True)]
        right = sum(ys) + rho * sum(M @ x for M, x in zip(metrics, xs, strict=True))
        z = np.linalg.solve(np.diag(strength) + rho * sum(metrics), right)
        more = (relaxation - 1) * rho
        ys = [y + more * M @ (x - z) for x, y, M in zip(xs, ys, metrics, strict=True)]
        yield z


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize("rho", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["linear_regression", "logistic_regression"])
def test_each_sweep_is_the_textbooks(kind, rho, relaxation):
    problem = PROBLEMS[kind](300, 4)
    cuts = [(0, 40), (40, 180), (180, 300)]
    parts = [type(problem)(problem.X[i:j], problem.y[i:j]) for i, j in cuts]
    expected = list(textbook(parts, kind, 0.05, rho, relaxation, 6))
    seen = []
    run_solver(
        plain_objective(problem, kind, 0.05),
        ADMM(rho, relaxation, adapts=False),
        Rules(6, 1e-300),
        callback=lambda progress: seen.append(progress.loop.solver.point.w),
    )
    n = min(len(seen) - 1, 6)
    assert n >= 2
    np.testing.assert_allclose(seen[1 : 1 + n], expected[:n], rtol=1e-6, atol=1e-7)


def test_the_same_bits_on_any_number_of_ranks_and_subproblems():
    def digests(size, runs):
        results = [result for _, result in run_threads(size, lambda comm: solved(comm, runs, alpha=0.01))]
        assert all(result.converged for result in results)
        return {digest(result) for result in results}

    expected = digests(1, 1)
    for size, runs in ((1, 7), (2, 2), (3, None), (5, 1), (5, 7)):
        assert digests(size, runs) == expected


def test_the_optimum():
    (objective, found), *_ = run_threads(1, lambda comm: solved(comm, 7, alpha=0.01))
    best = run_solver(objective, make_solver("newton"), Rules(50, 1e-12))
    assert found.objective == pytest.approx(best.objective, rel=1e-8)


def test_few_sweeps_with_hardly_a_penalty():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 15))
    y = (X @ rng.normal(size=15) + rng.logistic(size=len(X)) > 0).astype(float)
    problem = PROBLEM._replace(X=X, y=y, weight=None)
    objective, _ = model_objective(problem, "logistic_regression", dataset=in_memory, alpha=1 / len(X))
    newton, admm = (run_solver(objective, make_solver(name), Rules(300, 1e-6)) for name in ("newton", "admm"))
    assert admm.converged
    assert admm.n_iter <= newton.n_iter + 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(1e-5, 0.0), (1e-4, 0.9)])
def test_rows_beyond_a_hinge_bend_nothing(seed, alpha, l1_ratio):
    problem = classification(60, 20, seed)
    objective, _ = model_objective(problem, "linear_svc", alpha=alpha, l1_ratio=l1_ratio, with_std=True)
    result = run_solver(objective, ADMM(), Rules(100, 1e-8))
    assert result.converged, result.certificate


def test_few_sweeps_with_squared_hinges_and_an_l1_part():
    problem = classification(20, 30, weighted=True)
    keys = {"alpha": 0.05, "l1_ratio": 0.9, "with_mean": True, "with_std": True}
    objective, _ = model_objective(problem, "linear_svc", **keys)
    result = run_solver(objective, ADMM(), Rules(10, 1e-6))
    assert result.converged, result.certificate


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


def fixed(rho, relaxation, kind="logistic_regression"):
    """A result, and the values of rho on the way."""
    objective, _ = model_objective(PROBLEMS[kind](2000, 8), kind, alpha=0.05, l1_ratio=0.5)
    rhos = []
    solver = ADMM(rho, relaxation, adapts=False)

    def note(progress):
        rhos.append(progress.loop.solver.rho)

    return run_solver(objective, solver, Rules(200, 1e-8), callback=note), rhos


@pytest.mark.parametrize("kind", ["linear_regression", "logistic_regression", "linear_svc"])
@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("rho", [0.25, 5.0])
def test_rho_may_stay(rho, relaxation, kind):
    result, rhos = fixed(rho, relaxation, kind)
    assert result.converged, result.certificate
    assert set(rhos) == {rho}


def test_relaxation_saves_sweeps():
    plain, relaxed = (fixed(3.0, relaxation)[0].n_iter for relaxation in (1.0, 1.6))
    assert relaxed < 0.8 * plain


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("adapts", [True, False])
def test_a_start_from_which_newtons_steps_go_uphill(adapts):
    objective, _ = model_objective(PROBLEM, "logistic_regression", alpha=1e-4)
    seen = []
    result = run_solver(
        objective,
        ADMM(adapts=adapts),
        Rules(30, 1e-8),
        w=np.full(6, 5.0),
        callback=lambda progress: seen.append((progress.loop.solver.rho, progress.objective)),
    )
    rhos, values = zip(*seen, strict=True)
    rises = [after > before * (1 + 1e-8) for before, after in pairwise(values)]
    assert any(rises) != adapts
    assert set(rhos) == {1.0}
    assert result.converged or not adapts


def test_a_checkpoint_resumes_on_other_ranks():
    runs = 7
    whole = digest(run_threads(1, lambda comm: solved(comm, runs, alpha=0.01))[0][1])

    def stopped(comm):
        trees = []

        def note(progress):
            if progress.loop.n_iter == 2:
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
