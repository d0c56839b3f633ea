"""A scaling from a sample of the shards: where it is taken, the same bits everywhere, and no other answer."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, Problem, as_csr, classification, model_objective

from hpcml.algorithms import scaling
from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.scaling import fit_scaling, rough_scaling
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.collectives import run_threads

WIDE = classification(3200, 4, weighted=True)  # 100 shards, of which 6 are the sample
WIDE.X[:] = WIDE.X * [1.0, 1e6, 1e-6, 3.0] + [0.0, 1e7, 0.0, 5.0]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few numbers are enough."""
    monkeypatch.setattr(scaling, "_LEAST_NUMBERS", 1000)


def test_it_is_near_that_of_all_rows():
    rough, full = rough_scaling(Grid(WIDE)), fit_scaling(Grid(WIDE), True, True)
    np.testing.assert_allclose(rough.scale, full.scale, rtol=0.3)
    np.testing.assert_allclose((rough.mean - full.mean) / full.scale, 0.0, atol=0.3)
    assert (rough.scale != full.scale).all()


@pytest.mark.parametrize("problem", [WIDE, as_csr(WIDE)], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(problem):
    expected = rough_scaling(Grid(problem))
    for size in (1, 2, 3, 5, 120):
        for found in run_threads(size, lambda comm: rough_scaling(Grid(problem, comm))):
            assert found.mean.tobytes() == expected.mean.tobytes()
            assert found.scale.tobytes() == expected.scale.tobytes()


def test_where_a_sample_will_not_do(monkeypatch):
    sampled = {i for block in _sample(WIDE) for i in block.index.tolist()}
    rare = Problem(WIDE.X.copy(), WIDE.y, WIDE.weight)
    rare.X[:, 2] = 7.0
    rare.X[next(i for i in range(3200) if i not in sampled), 2] = 8.0  # as if constant in the sample
    assert rough_scaling(Grid(rare)) is None
    weightless = np.where(np.isin(np.arange(3200), list(sampled)), 0.0, 1.0)
    assert rough_scaling(Grid(Problem(WIDE.X, WIDE.y, weightless))) is None
    assert rough_scaling(Grid(WIDE, shard_rows=64)) is None  # 50 shards
    monkeypatch.setattr(scaling, "_LEAST_NUMBERS", 4 * 3200 + 1)
    assert rough_scaling(Grid(WIDE)) is None


def _sample(problem):
    data, taken = Grid(problem), []
    order = scaling.shuffled_shards(data.partition, 0)
    taken.extend(scaling.Sampled(data, order[: order.size // 16]).blocks())
    return taken


@pytest.mark.parametrize("asked", [{}, {"with_mean": True}, {"with_std": True}])
@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_the_answer_is_that_of_the_whole_scaling(asked, l1_ratio, monkeypatch):
    def coefficients():
        factors = 1.0 if asked.get("with_std") else np.array([1.0, 1e6, 1e-6, 3.0])
        settings = {"alpha": 1e-3, "l1_ratio": l1_ratio, "factors": factors, **asked}
        objective, of_user = model_objective(WIDE, "logistic_regression", **settings)
        name = "prox_newton" if l1_ratio else "newton"
        result = run_solver(objective, make_solver(name), Rules(100, 1e-9))
        assert result.converged
        return objective.to_raw(result.w)[0] * WIDE.X.std(axis=0), of_user

    found, of_user = coefficients()
    monkeypatch.setattr(scaling, "_LEAST_NUMBERS", 1 << 22)
    expected, of_user_before = coefficients()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    for part, other in zip(of_user, of_user_before, strict=True):
        assert part.tobytes() == other.tobytes()
