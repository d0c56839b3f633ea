"""Asynchronous ADMM: the certified optimum whoever comes when, bounded staleness, a state that resumes."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from algorithms.problems import PROBLEMS, as_csr, classification, model_objective
from algorithms.test_admm import dataset
from algorithms.test_solvers import copied

from hpcml.algorithms.async_admm import AsyncADMM
from hpcml.algorithms.choice import choose_solver, make_solver
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, gathered, to_tree
from hpcml.collectives import run_threads
from hpcml.errors import SpecError

PROBLEM = classification(3000, 5, weighted=True)
RULES = Rules(100, 1e-10)
PLAIN = AsyncADMM()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 64 rows."""
    monkeypatch.setattr("hpcml.data.partition._BLOCK_BYTES", 64 * 8 * 5)


class Delayed:
    """Rows that come late, one shard at a time: `delay` gives seconds."""

    def __init__(self, data, delay):
        self._data, self._delay = data, delay

    def __getattr__(self, name):
        return getattr(self._data, name)

    def blocks(self, shard=None):
        if shard is not None:
            time.sleep(self._delay())
        yield from self._data.blocks(shard)


def delayed(runs, delay):
    """Data sets of uneven shares, the coordinator's empty, whose ranks are late as `delay(comm)` says."""
    make = dataset(runs)
    return lambda problem, comm: Delayed(make(problem, comm), delay(comm))


def at_random(seed):
    """Delays of 0 to 4 ms, and now and then ten times that, another row of them for each rank."""

    def delay(comm):
        rng = np.random.default_rng([seed, comm.rank])
        return lambda: rng.random() * (0.004 if rng.random() < 0.95 else 0.04)

    return delay


def solved(comm, make, solver=PLAIN, kind="logistic_regression", problem=PROBLEM, **settings):
    objective, _ = model_objective(problem, kind, comm, make, **({"alpha": 0.01} | settings))
    return run_solver(objective, solver, RULES)


def best(kind="logistic_regression", problem=PROBLEM, **settings):
    objective, _ = model_objective(problem, kind, **({"alpha": 0.01} | settings))
    return run_solver(objective, make_solver("prox_newton"), Rules(100, 1e-12)).objective


@pytest.mark.parametrize("seed", range(8))
def test_the_certified_optimum_with_random_delays(seed):
    kind = ("logistic_regression", "linear_regression", "linear_svc")[seed % 3]
    settings = {"l1_ratio": seed // 3 % 3 / 2}
    problem = PROBLEMS[kind](1500, 5, seed, weighted=True)
    pace = AsyncADMM(min_batch=(1, 3, 0.5)[seed % 3], max_staleness=seed % 4)
    size, make = 2 + seed % 4, delayed(9, at_random(seed))
    results = run_threads(size, lambda comm: solved(comm, make, pace, kind, problem, **settings))
    assert all(result.converged for result in results), results[0].certificate
    assert results[0].objective == pytest.approx(best(kind, problem, **settings), rel=1e-9)
    assert len({result.w.tobytes() for result in results}) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("runs", [1, 2, 7, None])
def test_any_subproblems_on_any_number_of_ranks(runs, size):
    results = run_threads(size, lambda comm: solved(comm, dataset(runs)))
    assert all(result.converged for result in results)
    assert results[0].objective == pytest.approx(best(), rel=1e-9)


def test_sparse_rows():
    make = dataset(7)
    results = run_threads(3, lambda comm: solved(comm, make, problem=as_csr(PROBLEM)))
    assert all(result.converged for result in results)


def counts(result):
    """Updates of each subproblem, and how many of them were of each staleness."""
    state = result.loop.solver
    assert state.updates.sum() == state.lags.sum()
    report = state.report()
    assert sum(report["staleness"].values()) == report["updates"]["all"] == state.updates.sum()
    assert (report["updates"]["least"], report["subproblems"]) == (state.updates.min(), state.updates.size)
    return state.updates, state.lags


def slow_last(comm):
    seconds = 0.03 if comm.rank == comm.size - 1 else 0.0
    return lambda: seconds


def test_a_slow_rank_holds_nobody_up():
    result = run_threads(3, lambda comm: solved(comm, delayed(9, slow_last)))[0]
    updates, lags = counts(result)
    assert result.converged
    assert updates[0] > 2 * updates[-1]
    assert lags[1:].any()


@pytest.mark.parametrize("most", [0, 2])
def test_staleness_is_bounded(most):
    pace = AsyncADMM(max_staleness=most)
    result = run_threads(3, lambda comm: solved(comm, delayed(9, slow_last), pace))[0]
    updates, _ = counts(result)
    # In a meeting a rank goes one round further than it may be ahead, and one more with an early answer.
    assert updates.max() <= result.n_iter * (updates.min() + most + 2)
    assert result.converged


def test_a_batch_of_all_is_a_round_in_step():
    pace = AsyncADMM(min_batch=9)
    updates, lags = counts(run_threads(3, lambda comm: solved(comm, delayed(9, at_random(0)), pace))[0])
    assert set(updates.tolist()) == {updates[0]}
    assert not lags[1:].any()


@pytest.mark.parametrize("rho", [1e-2, 1e2])
def test_a_rho_that_is_far_off(rho):
    solver = AsyncADMM(rho)
    rules = Rules(300, 1e-6)
    objective, _ = run_threads(
        1, lambda comm: model_objective(PROBLEM, "logistic_regression", comm, dataset(7), alpha=0.01)
    )[0]
    result = run_solver(objective, solver, rules)
    assert result.converged, result.certificate


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("adapts", [True, False])
def test_a_start_from_which_newtons_steps_go_uphill(adapts):
    make = dataset(4)
    objective, _ = run_threads(
        1, lambda comm: model_objective(PROBLEM, "logistic_regression", comm, make, alpha=1e-4)
    )[0]
    seen = []
    result = run_solver(
        objective,
        AsyncADMM(adapts=adapts),
        Rules(30, 1e-8),
        w=np.full(6, 5.0),
        callback=lambda progress: seen.append((progress.loop.solver.rho, progress.objective)),
    )
    rhos, values = zip(*seen, strict=True)
    if adapts:
        assert result.converged, result.reason
        assert max(rhos) > 1 == rhos[-1]
        assert all(after <= before * (1 + 1e-8) for before, after in pairwise(values))
    else:
        assert set(rhos) == {1.0}
        assert any(after > before for before, after in pairwise(values))


def test_a_checkpoint_resumes_on_other_ranks():
    loose = Rules(1, 1e-30)

    def stopped(comm):
        objective, _ = model_objective(PROBLEM, "logistic_regression", comm, dataset(7), alpha=0.01)
        return to_tree(gathered(comm, run_solver(objective, AsyncADMM(), loose).loop))

    for size, later in ((1, 3), (3, 2), (5, 1)):
        tree = copied(run_threads(size, stopped)[0])
        assert tree["solver"]["parts"]["rows"].size == 0
        assert tree["solver"]["y"]["rows"].shape == (7, 6)

        def resumed(comm, tree=tree):
            objective, _ = model_objective(PROBLEM, "logistic_regression", comm, dataset(7), alpha=0.01)
            loop = from_tree(LoopState, tree)
            loop = loop._replace(solver=from_tree(AsyncADMM.state_type, loop.solver))
            return run_solver(objective, AsyncADMM(), Rules(20, 1e-12), loop=loop)

        results = run_threads(later, resumed)
        assert all(result.converged for result in results)
        assert results[0].objective == pytest.approx(best(), rel=1e-9)
        assert results[0].loop.solver.updates.sum() > tree["solver"]["updates"].sum()


def test_a_rank_that_fails_at_work_ends_the_others():
    def failing(comm):
        def delay():
            if comm.rank == 2:
                raise ValueError("only here")
            return 0.0

        return delay

    with pytest.raises(ValueError, match="only here"):
        run_threads(3, lambda comm: solved(comm, delayed(9, failing)))


def test_refused():
    objective, _ = model_objective(PROBLEMS["poisson_regression"](), "poisson_regression", alpha=0.1)
    with pytest.raises(SpecError, match="solver async_admm needs a loss of bounded curvature"):
        choose_solver("async_admm", objective)
    wide = PROBLEM._replace(X=np.ones((2, 8000)), y=np.array([0.0, 1.0]), weight=None)
    objective, _ = model_objective(wide, "logistic_regression")
    with pytest.raises(SpecError, match="Hessians of at most 8000 parameters, not 8001"):
        AsyncADMM().init(objective, objective.first_w)
