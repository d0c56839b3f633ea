"""Walks of SGD over shards: compiled ones are NumPy's, with the same bits for every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, as_csr, classification

from hpcml.algorithms.kernels import choice, walks
from hpcml.algorithms.kernels.walks import Steps, shard_walks
from hpcml.algorithms.losses import Huber, Logistic, Squared, SquaredHinge

COMPILED = [name for name in choice.available() if name != "numpy"]
LOSSES = [Squared(), Logistic(), SquaredHinge(), Huber(0.5)]


def block_of(d, *, single=False, sparse=False, weighted=True):
    problem = classification(300, d, weighted=weighted)
    if single:
        problem = problem._replace(X=problem.X.astype(np.float32))
    return next(Grid(as_csr(problem) if sparse else problem, shard_rows=64, block_rows=16).blocks())


def steps_of(d, rows=24, has_intercept=True):
    rng = np.random.default_rng(d)
    return Steps(rows, 0.01, has_intercept, rng.normal(size=d), rng.random(d) + 0.5, 1e-3 * rng.random(d))


def walked(monkeypatch, kernels, *arguments):
    monkeypatch.setenv(choice.VARIABLE, kernels)
    return shard_walks(*arguments)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("d", [1, 7, 16, 37])
def test_compiled_is_numpy(monkeypatch, loss, sparse, single, d):
    block, coef = block_of(d, single=single, sparse=sparse), np.linspace(-0.5, 0.5, d)
    for steps in (steps_of(d), steps_of(d, 7, has_intercept=False), steps_of(d, 1000)):
        arguments = (block, loss, coef, 0.3, steps)
        expected = walked(monkeypatch, "numpy", *arguments)
        found = [walked(monkeypatch, name, *arguments) for name in COMPILED]
        for one in found:
            np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-11)
            assert one.tobytes() == found[0].tobytes()
        assert np.ptp(expected, axis=0).min() > 0 or not steps.has_intercept


def test_a_shard_without_rows_stays(monkeypatch):
    block = block_of(3)
    empty = walks.Block(block.X[:0], block.y[:0], None, 0, np.zeros(3, np.int64), np.zeros(1, np.int64))
    coef, steps = np.array([1.0, -2.0, 0.5]), steps_of(3)
    for name in choice.available():
        found = walked(monkeypatch, name, empty, Squared(), coef, 0.25, steps)
        np.testing.assert_allclose(found, [[*coef, 0.25 + steps.mean @ coef]] * 2, rtol=1e-15)


@pytest.mark.skipif(not COMPILED, reason="the kernels were not compiled here")
def test_wrong_lengths_are_refused():
    module, block, steps = choice.compiled(), block_of(3), steps_of(3)

    def call(out, steps=steps, coef=steps.mean):
        borders, labels = (block.shards, block.pieces), (block.y, block.weight, None)
        formula = Squared().formula
        module.walk(COMPILED[0], (block.X,), labels, borders, formula, (coef, 0.0), tuple(steps), out)

    call(np.empty((block.n_shards, 4)))
    for wrong in (
        {"out": np.empty((block.n_shards, 3))},
        {"out": np.empty((1, 4))},
        {"out": np.empty((block.n_shards, 4)), "coef": np.zeros(2)},
        {"out": np.empty((block.n_shards, 4)), "steps": steps._replace(mean=np.zeros(2))},
        {"out": np.empty((block.n_shards, 4)), "steps": steps._replace(rows=0)},
    ):
        with pytest.raises(ValueError, match="wrong length"):
            call(**wrong)
