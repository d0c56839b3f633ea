"""Weights of classes, against scikit-learn's and as repetition."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import PROBLEMS, SERIAL, Grid, model_objective
from sklearn.utils.class_weight import compute_class_weight

from hpcml.algorithms.class_weight import class_factors, reweighted
from hpcml.collectives import run_threads
from hpcml.data import part_of
from hpcml.errors import SpecError

CLASSES = np.array([0.0, 1.0])
WANTED = ["balanced", {0.0: 3.0, 1.0: 0.5}, {1.0: 2.0}]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_factors_are_scikit_learns(wanted, weighted):
    problem = PROBLEMS["logistic_regression"](weighted=weighted)
    expected = compute_class_weight(wanted, classes=CLASSES, y=problem.y, sample_weight=problem.weight)
    data, total = reweighted(Grid(problem), CLASSES, wanted)
    weight = np.ones(150) if problem.weight is None else problem.weight
    rows = expected[problem.y.astype(int)] * weight
    (block,) = data.blocks()
    np.testing.assert_allclose(block.weight, rows, rtol=1e-14)
    assert total == pytest.approx(rows.sum(), rel=1e-14)
    assert (data.n_samples, data.n_features) == (150, 6)


def test_rows_in_memory_are_weighted_once():
    problem = PROBLEMS["logistic_regression"](weighted=True)
    data, _ = reweighted(Grid(problem), CLASSES, "balanced")
    (first,), (again,) = data.blocks(), data.blocks()
    assert first is again


def test_other_rows_have_their_own_weights():
    """What comes anew at each pass, as streamed rows do, is weighted anew."""

    class Streamed(Grid):
        def blocks(self, shard=None):
            (block,) = super().blocks(shard)
            for i in range(block.n_shards):
                yield part_of(block, i)

    problem = PROBLEMS["logistic_regression"](weighted=True)
    data, _ = reweighted(Streamed(problem), CLASSES, {0.0: 3.0, 1.0: 0.5})
    expected = np.where(problem.y == 1, 0.5, 3.0) * problem.weight
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([block.weight for block in data.blocks()]), expected)


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_the_same_bits_on_any_number_of_ranks(wanted):
    problem = PROBLEMS["linear_svc"](weighted=True)

    def program(comm):
        settings = {"C": 1.0, "class_weight": wanted, "with_std": True}
        objective, asked = model_objective(problem, "linear_svc", comm, **settings)
        found = objective.evaluate(np.linspace(-1, 1, 7), columns=objective.all_columns)
        bits = b"".join(part.tobytes() for part in (found.gradient, found.hessian, asked.scale))
        return bits, found.value, objective.total_weight

    expected = program(SERIAL)
    for size in (2, 3, 5, 7):
        assert run_threads(size, program) == [expected] * size


def test_they_leave_the_standardisation_alone():
    problem = PROBLEMS["logistic_regression"](weighted=True)
    plain = model_objective(problem, "logistic_regression", alpha=0.1, with_mean=True, with_std=True)[1]
    other = model_objective(
        problem, "logistic_regression", alpha=0.1, with_mean=True, with_std=True, class_weight="balanced"
    )[1]
    assert plain.mean.tobytes() == other.mean.tobytes()
    assert plain.scale.tobytes() == other.scale.tobytes()


def test_a_row_of_another_label_keeps_its_weight_of_zero():
    problem = PROBLEMS["logistic_regression"](weighted=True)
    problem.y[:4], problem.weight[:4] = [7.0, -7.0, 0.5, 2.0], 0.0
    (block,) = reweighted(Grid(problem), CLASSES, {0.0: 2.0, 1.0: 3.0})[0].blocks()
    assert not block.weight[:4].any()


def test_refused():
    with pytest.raises(SpecError, match="5 is no class, and 1 has no weight"):
        class_factors(CLASSES, np.ones(2), {0.0: 1.0, 5.0: 2.0})
    assert class_factors(CLASSES, np.ones(2), {0.0: 2.0, 1.0: 3.0, 5.0: 1.0}).tolist() == [2.0, 3.0]
    with pytest.raises(SpecError, match="all classes are zero"):
        reweighted(Grid(PROBLEMS["logistic_regression"]()), CLASSES, {0.0: 0.0, 1.0: 0.0})
