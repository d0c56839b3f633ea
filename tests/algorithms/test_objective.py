"""Value, gradient and Hessian are one function's, however rows are stored, weighted, scaled or split."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import (
    PROBLEMS,
    SERIAL,
    Grid,
    Problem,
    as_csr,
    model_objective,
    naive,
    plain_objective,
    same,
)

from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.kernels.rows import gram, pieces, squares
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.reduction import Ballot, reduce_blocks
from hpcml.algorithms.scaling import Scaling, fit_scaling
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import CollectiveError

KINDS = list(PROBLEMS)
CASES = [(kind, weighted) for kind in KINDS for weighted in (False, True)]


def point(objective, seed=3, scale=1.0):
    return np.random.default_rng(seed).normal(size=objective.n_parameters) * scale


@pytest.mark.parametrize(("kind", "weighted"), CASES)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_against_the_formula(kind, weighted, intercept, make):
    problem = PROBLEMS[kind](weighted=weighted)
    objective = plain_objective(make(problem), kind, 0.3, intercept)
    w = point(objective)
    coef, b = (w[:-1], w[-1]) if intercept else (w, 0.0)
    value, gradient, hessian = naive(problem, kind, 0.3, coef, b)
    found = objective.evaluate(w, columns=objective.all_columns)
    n = w.size
    assert found.value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(found.gradient, gradient[:n], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.hessian, hessian[:n, :n], rtol=1e-11, atol=1e-13)
    assert (found.hessian == found.hessian.T).all()
    alone = objective.evaluate(w)
    assert alone.value == found.value
    assert alone.gradient.tobytes() == found.gradient.tobytes()
    assert alone.hessian.shape == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    objective, _ = model_objective(PROBLEMS[kind](weighted=True), kind, alpha=0.2, with_std=True)
    w, h = point(objective, scale=0.5), 1e-3
    found = objective.evaluate(w, columns=objective.all_columns)
    for j, e in enumerate(np.eye(w.size)):
        near = [objective.evaluate(w + k * h * e) for k in (-2, -1, 1, 2)]
        coefficients = np.array([1, -8, 8, -1]) / (12 * h)
        slope = coefficients @ [p.value for p in near]
        assert found.gradient[j] == pytest.approx(slope, abs=1e-8)
        row = coefficients @ np.stack([p.gradient for p in near])
        np.testing.assert_allclose(found.hessian[j], row, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repetitions(kind):
    problem = PROBLEMS[kind](weighted=True)
    repeats = problem.weight.astype(int)
    repeated = Problem(np.repeat(problem.X, repeats, axis=0), np.repeat(problem.y, repeats))
    weighted, plain = plain_objective(problem, kind), plain_objective(repeated, kind)
    w = point(weighted)
    a, b = (one.evaluate(w, columns=one.all_columns) for one in (weighted, plain))
    assert a.value == pytest.approx(b.value, rel=1e-13)
    np.testing.assert_allclose(a.gradient, b.gradient, atol=1e-13)
    np.testing.assert_allclose(a.hessian, b.hessian, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_of_weight_zero_is_absent(kind):
    problem = PROBLEMS[kind](96)
    weight = np.repeat([1.0, 0.0, 2.0], 32)
    kept = weight > 0
    X = problem.X.copy()
    X[~kept] = 1e150  # finite, as the survey asks, and without any influence
    whole = plain_objective(Problem(X, problem.y, weight), kind)
    part = plain_objective(Problem(problem.X[kept], problem.y[kept], weight[kept]), kind)
    w = point(whole, scale=0.1)
    assert whole.evaluate(w).value == pytest.approx(part.evaluate(w).value, rel=1e-13)
    np.testing.assert_allclose(whole.evaluate(w).gradient, part.evaluate(w).gradient, atol=1e-13)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_scaling_is_algebra(kind, with_mean, with_std, make):
    """F at w equals the naive F of explicitly standardised features at the asked-for weights."""
    problem = PROBLEMS[kind](weighted=True)
    problem = problem._replace(X=problem.X * np.logspace(-2, 2, 6) + [5, 0, 0, -100, 0, 0])
    settings = {"alpha": 0.7, "with_mean": with_mean, "with_std": with_std}
    objective, asked = model_objective(make(problem), kind, **settings)
    mean = np.average(problem.X, axis=0, weights=problem.weight)
    std = np.sqrt(np.average((problem.X - mean) ** 2, axis=0, weights=problem.weight))
    np.testing.assert_allclose(asked.mean, mean if with_mean else 0 * mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(asked.scale, std if with_std else 1 + 0 * std, rtol=1e-12)
    w = point(objective)
    coef, b = objective.to_raw(w)
    explicit = problem._replace(X=(problem.X - asked.mean) / asked.scale)
    value, _, _ = naive(explicit, kind, 0.7, coef * asked.scale, b + asked.mean @ coef)
    assert objective.evaluate(w).value == pytest.approx(value, rel=1e-11)


def test_c_is_the_strength_of_the_sum():
    problem = PROBLEMS["logistic_regression"](weighted=True)
    by_c, _ = model_objective(problem, "logistic_regression", C=2.0)
    by_alpha, _ = model_objective(problem, "logistic_regression", alpha=1 / (2.0 * problem.weight.sum()))
    assert by_c.penalty.l2.tobytes() == by_alpha.penalty.l2.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_the_objective_on_it(kind):
    objective, _ = model_objective(PROBLEMS[kind](weighted=True), kind, alpha=0.2)
    counting = CountingCommunicator(SERIAL)
    objective = same(objective, data=Grid(PROBLEMS[kind](weighted=True), counting))
    w, direction = point(objective), point(objective, 5)
    line = objective.line(w, direction)
    assert not counting.calls
    steps = np.array([0.0, 0.5, -1.0, 3.0])
    values = line.values(steps)
    assert counting.calls == {"allreduce": 2}
    expected = [objective.evaluate(w + t * direction).value for t in steps]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    mean_loss = same(objective, penalty=make_penalty(objective.data.n_features))
    h = 1e-3
    near = [mean_loss.evaluate(w + (0.5 + k * h) * direction).value for k in (-2, -1, 0, 1, 2)]
    slope, curvature = line.derivatives(0.5)
    assert slope == pytest.approx(np.array([1, -8, 0, 8, -1]) @ near / (12 * h), abs=1e-7)
    assert curvature == pytest.approx(np.array([-1, 16, -30, 16, -1]) @ near / (12 * h * h), rel=1e-5)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("columns", [[0, 3, 5], []])
def test_the_hessian_of_some_columns(make, columns):
    problem = make(PROBLEMS["logistic_regression"](weighted=True))
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.1, with_std=True)
    whole = objective.evaluate(point(objective), columns=objective.all_columns)
    part = objective.evaluate(point(objective), columns=np.array(columns, np.int64), window=whole.window)
    kept = [*columns, 6]
    np.testing.assert_allclose(part.hessian, whole.hessian[np.ix_(kept, kept)], rtol=1e-12)
    np.testing.assert_array_equal(part.gradient, whole.gradient)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    problem = make(PROBLEMS["logistic_regression"](weighted=True))

    def program(comm):
        objective, asked = model_objective(problem, "logistic_regression", comm, alpha=0.1, with_std=True)
        found = objective.evaluate(point(objective), columns=objective.all_columns)
        return b"".join(part.tobytes() for part in (found.gradient, found.hessian, asked.scale)), found.value

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5, 7):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("columns", [None, np.arange(6), np.array([1, 4])], ids=["none", "all", "two"])
def test_messages_of_an_evaluation(columns):
    def program(comm):
        counting = CountingCommunicator(comm)
        objective = plain_objective(PROBLEMS["logistic_regression"](), "logistic_regression", comm=counting)
        first = objective.evaluate(point(objective), columns=columns)
        before = counting.calls["allreduce"]
        objective.evaluate(point(objective) * 1.01, columns=columns, window=first.window)
        return before, counting.calls["allreduce"], set(counting.calls)

    assert run_threads(3, program) == [(2, 3, {"allreduce"})] * 3


def test_votes_ride_on_the_evaluation():
    def program(comm):
        ballot = Ballot(lambda: (comm.rank, 1))
        plain = plain_objective(PROBLEMS["logistic_regression"](), "logistic_regression", comm=comm)
        objective = same(plain, ballot=ballot)
        objective.evaluate(point(objective))
        return ballot.result

    assert run_threads(3, program) == [(3, 3)] * 3


def test_ranks_in_different_reductions_are_told():
    def program(comm):
        ballot = Ballot()
        ballot.sequence = comm.rank
        data = Grid(PROBLEMS["logistic_regression"](), comm)
        return reduce_blocks(data, lambda block: [np.ones((block.n_shards, 1))], 1, ballot=ballot)

    with pytest.raises(CollectiveError, match="different reductions"):
        run_threads(2, program)


def test_rows_left_out():
    problem = PROBLEMS["linear_regression"](weighted=True)
    selection = RowSelection(1, fraction=0.5)
    kept = selection.keeps(np.arange(150))
    objective = plain_objective(problem, "linear_regression", selection=selection)
    objective = same(objective, total_weight=float(problem.weight[kept].sum()))
    w = point(objective)
    part = Problem(*(array[kept] for array in problem))
    assert objective.evaluate(w).value == pytest.approx(
        naive(part, "linear_regression", 0.1, w[:-1], w[-1])[0], rel=1e-13
    )


class TestKernels:
    @pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_products(self, make, dtype):
        problem = PROBLEMS["linear_regression"]()
        problem = problem._replace(X=problem.X.astype(dtype))
        block = next(Grid(make(problem)).blocks())
        X, w = problem.X.astype(float), np.arange(6.0)
        np.testing.assert_allclose(raw_prediction(block, w, 2.0), X @ w + 2, rtol=1e-13)
        weight = np.random.default_rng(0).random(150)
        np.testing.assert_allclose(gram(block.X, weight), (X.T * weight) @ X, rtol=1e-12)
        center = X.mean(axis=0)
        np.testing.assert_allclose(squares(block.X, weight, center), weight @ (X - center) ** 2, rtol=1e-12)
        assert gram(block.X, weight).dtype == squares(block.X, weight, center).dtype == np.float64

    def test_pieces_skip_what_is_empty(self):
        problem = PROBLEMS["linear_regression"]()
        block = next(Grid(problem, selection=RowSelection(start=70, stop=75)).blocks())
        found = [(piece.shard, piece.rows.stop - piece.rows.start) for piece in pieces(block)]
        assert found == [(2, 2), (2, 3)]

    def test_csr_spread_far_from_zero(self):
        rng = np.random.default_rng(0)
        X = 1e6 + rng.normal(size=(150, 2))
        X[:, 1] = 1e6  # constant
        problem = Problem(X, X[:, 0], rng.random(150))
        dense, rows = (fit_scaling(Grid(p), True, True) for p in (problem, as_csr(problem)))
        np.testing.assert_allclose(rows.scale, dense.scale, rtol=1e-9)
        assert rows.scale[1] == dense.scale[1] == 1.0


def test_scaling_to_raw():
    rng = np.random.default_rng(0)
    scaling = Scaling(rng.normal(size=3), rng.random(3) + 0.5)
    x, w = rng.normal(size=3), rng.normal(size=3)
    coef, b = scaling.to_raw(w, 2.0)
    assert x @ coef + b == pytest.approx((x - scaling.mean) / scaling.scale @ w + 2.0)


@pytest.mark.parametrize("n", [1, 2, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_few_rows_and_one_feature(n, kind):
    problem = Problem(np.arange(n, dtype=float)[:, None], (np.arange(n) % 2).astype(float))
    objective = plain_objective(problem, kind)
    value, gradient, _ = naive(problem, kind, 0.1, np.array([0.3]), -0.2)
    found = objective.evaluate(np.array([0.3, -0.2]))
    assert found.value == pytest.approx(value)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-12, atol=1e-14)
