"""A start on samples: the same optimum and bits, fewer passes, and when it is left out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from algorithms.problems import Grid, Problem, as_csr, classification, model_objective, same
from algorithms.test_joint_scale import heavy
from algorithms.test_solvers import digest

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.pairs import ON_SAMPLES
from hpcml.algorithms.progressive import pays, warm_start
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import run_threads
from hpcml.data import RowSelection, part_of
from hpcml.data.sampled import Sampled

RULES = Rules(2000, 1e-8)
ROWS = classification(2400, 5, weighted=True)


class Counting(Grid):
    """Counts rows read, and gives one shard alone where it is asked to."""

    n_read = 0

    def blocks(self, shard=None):
        i = 0 if shard is None else shard - self.partition.shards_of(self.comm.rank).start
        block = self._block if shard is None else part_of(self._block, i)
        self.n_read += block.n_rows
        yield block


def streamed(data):
    """The same rows shard by shard, as a file gives them."""
    return Sampled(data, np.arange(data.partition.n_shards), data.n_samples)


def fit(name, problem=ROWS, kind="logistic_regression", seed=3, **settings):
    objective, _ = model_objective(problem, kind, dataset=Counting, **{"alpha": 0.01, **settings})
    objective.data.n_read = 0
    warm = warm_start(objective, make_solver(name), RULES, wanted=True, seed=seed)
    return objective, warm, run_solver(objective, make_solver(name), RULES, loop=warm.loop)


@pytest.mark.parametrize("name", ON_SAMPLES)
def test_the_same_optimum(name):
    objective, warm, result = fit(name)
    cold = run_solver(objective, make_solver(name), RULES)
    assert result.converged
    np.testing.assert_allclose(result.w, cold.w, atol=1e-3)
    assert result.objective == pytest.approx(cold.objective, rel=1e-7)
    assert result.loop.reference == cold.loop.reference
    assert [stage.n_rows for stage in warm.stages] == [4 * 32]


def test_fewer_passes():
    name = "newton_cg"
    objective, warm, result = fit(name, classification(60_000, 5), alpha=1e-4)
    with_samples, objective.data.n_read = objective.data.n_read, 0
    cold = run_solver(objective, make_solver(name), RULES)
    assert with_samples < objective.data.n_read
    assert result.n_iter < cold.n_iter
    assert len(warm.stages) == 2


def test_samples_grow():
    """2048 shards of 32 rows, in samples of 1 in 256 and 1 in 16."""
    _, warm, _ = fit("newton", classification(32 * 2048, 2))
    assert [stage.n_rows for stage in warm.stages] == [32 * 8, 32 * 128]


@pytest.mark.parametrize("name", ["newton", "newton_cg", "lbfgs", "gd", "prox_newton"])
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(name, make):
    """In memory and streamed, all rows and a split; more ranks than shards in the sample."""
    problem = make(classification(3000, 4, weighted=True))
    for selection in (None, RowSelection(seed=5, test=0.1, part="train")):

        def program(comm, streams=False, selection=selection):
            def dataset(problem, comm):
                data = Counting(problem, comm, selection=selection)
                return streamed(data) if streams else data

            objective, _ = model_objective(problem, "logistic_regression", comm, dataset, alpha=0.01)
            warm = warm_start(objective, make_solver(name), Rules(20, 1e-9), wanted=True, seed=1)
            return digest(
                run_solver(objective, make_solver(name), Rules(20, 1e-9), loop=warm.loop)
            ), warm.stages

        expected = run_threads(1, program)[0]
        assert run_threads(1, partial(program, streams=True))[0] == expected
        for size in (2, 7):
            assert run_threads(size, program) == [expected] * size


def test_the_seed_chooses():
    first, again, other = (digest(fit("lbfgs", seed=seed)[2]) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", ["newton", "lbfgs", "newton_cg"])
def test_resume(name):
    """A checkpoint of a run that began on samples is as any other."""
    objective, warm, whole = fit(name)
    trees, solver = [], make_solver(name)
    run_solver(objective, solver, RULES, loop=warm.loop, callback=lambda p: trees.append(to_tree(p.loop)))
    for tree in trees:
        loop = from_tree(LoopState, tree)
        loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
        assert digest(run_solver(objective, solver, RULES, loop=loop)) == digest(whole)


def test_a_joint_scale():
    objective, _, result = fit("newton", heavy(2400, 4), "huber_regression")
    cold = run_solver(objective, make_solver("newton"), RULES)
    assert result.converged
    assert result.objective == pytest.approx(cold.objective, rel=1e-7)


def test_a_sample_without_weight_or_of_one_class():
    weight = np.zeros(2400)
    weight[:40] = 1.0
    objective, _ = model_objective(
        ROWS._replace(weight=weight), "logistic_regression", dataset=Counting, alpha=0.01
    )
    for seed in range(4):
        warm = warm_start(objective, make_solver("newton"), RULES, wanted=True, seed=seed)
        assert run_solver(objective, make_solver("newton"), RULES, loop=warm and warm.loop).converged
    y = (np.arange(2400) < 5).astype(float)
    _, _, result = fit("newton", Problem(ROWS.X, y), alpha=1e-3)
    assert result.converged


def test_where_it_is_left_out():
    few, _ = model_objective(classification(60 * 32, 2), "logistic_regression", dataset=Counting, alpha=0.1)
    assert warm_start(few, make_solver("newton"), RULES, wanted=True) is None  # 60 shards
    wide, _ = model_objective(classification(3000, 20), "logistic_regression", dataset=Counting, alpha=0.1)
    assert warm_start(wide, make_solver("newton"), RULES, wanted=True) is None  # 160 rows for 21 weights
    assert warm_start(fit("newton")[0], make_solver("newton"), RULES) is None  # auto: small
    assert warm_start(fit("newton")[0], make_solver("newton"), RULES, wanted=False) is None
    assert warm_start(fit("newton")[0], make_solver("admm"), RULES, wanted=True) is None


def test_where_it_pays():
    objective = fit("newton")[0]

    class Long:
        n_samples, n_features = 1 << 21, 5

    many = same(objective, data=Long())
    assert [name for name in ON_SAMPLES if pays(many, make_solver(name))] == ["lbfgs", "newton", "newton_cg"]
    Long.n_features = 1000
    assert not pays(same(objective, data=Long()), make_solver("newton"))
