"""l1 strengths and bounds: the certified optimum, exact zeros, the same bits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from algorithms.problems import (
    SERIAL,
    Grid,
    as_csr,
    classification,
    model_objective,
    plain_objective,
    regression,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

from hpcml.algorithms.certificate import certify, make_reference
from hpcml.algorithms.choice import choose_solver, make_solver
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.errors import SpecError

TIGHT = Rules(20_000, 1e-12)
LINEAR = ("nesterov", "prox_newton", "gram", "admm", "sgd")
LOGISTIC = ("nesterov", "prox_newton", "admm", "sgd")
FORMS = pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])


def solved(problem, kind, name, rules=TIGHT, comm=SERIAL, **settings):
    objective, asked = model_objective(problem, kind, comm, **settings)
    result = run_solver(objective, make_solver(name), rules)
    return objective, asked, result


def raw(objective, result):
    assert result.converged, (result.reason, result.certificate)
    return objective.to_raw(result.w)


def digest(result):
    return hashlib.sha256(result.w.tobytes() + np.float64(result.objective).tobytes()).hexdigest()


@FORMS
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
def test_scikit_learn_finds_the_same_weights(name, l1_ratio, make):
    problem = regression(200, 12, weighted=True)
    objective, _, result = solved(make(problem), "linear_regression", name, alpha=0.05, l1_ratio=l1_ratio)
    twin = Lasso(0.05) if l1_ratio == 1.0 else ElasticNet(0.05, l1_ratio=l1_ratio)
    twin.set_params(tol=1e-14, max_iter=100_000).fit(problem.X, problem.y, problem.weight)
    coef, intercept = raw(objective, result)
    np.testing.assert_allclose(coef, twin.coef_, atol=1e-6)
    np.testing.assert_array_equal(coef == 0, twin.coef_ == 0)
    assert intercept == pytest.approx(twin.intercept_, abs=1e-6)


@FORMS
@pytest.mark.parametrize("name", LOGISTIC)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_scikit_learn_finds_the_same_classifier(name, l1_ratio, make):
    problem = classification(300, 12, weighted=True)
    objective, _, result = solved(make(problem), "logistic_regression", name, C=0.08, l1_ratio=l1_ratio)
    twin = LogisticRegression(C=0.08, l1_ratio=l1_ratio, solver="saga", tol=1e-12, max_iter=100_000)
    twin.fit(problem.X, problem.y, problem.weight)
    coef, intercept = raw(objective, result)
    np.testing.assert_allclose(coef, twin.coef_[0], atol=1e-5)
    assert (coef == 0).any()
    assert intercept == pytest.approx(twin.intercept_[0], abs=1e-5)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("bounds", [(0.0, np.inf), (-0.2, 0.3)])
def test_bounds(name, bounds):
    problem = regression(120, 8)
    lower, upper = bounds
    objective, _, result = solved(
        problem, "linear_regression", name, Rules(20_000, 1e-9), alpha=0.0, lower=lower, upper=upper
    )
    U = np.column_stack([problem.X, np.ones(120)])
    low, high = np.append(np.full(8, lower), -np.inf), np.append(np.full(8, upper), np.inf)
    oracle = lsq_linear(U, problem.y, (low, high), tol=1e-14).x
    coef, intercept = raw(objective, result)
    np.testing.assert_allclose(np.append(coef, intercept), oracle, atol=1e-5)
    assert coef.min() >= lower - 1e-15
    assert coef.max() <= upper + 1e-15


@pytest.mark.parametrize("name", LINEAR)
def test_factors_say_which_features_are_penalised(name):
    problem = regression(200, 6)
    factors = np.array([1.0, 0.0, 1.0, 5.0, 1.0, 0.0])
    objective, _, result = solved(
        problem,
        "linear_regression",
        name,
        Rules(20_000, 1e-9),
        alpha=0.2,
        l1_ratio=1.0,
        factors=factors,
        with_std=True,
        with_mean=True,
    )
    coef, intercept = raw(objective, result)
    z = problem.X @ coef + intercept
    deviation = problem.X.std(axis=0)
    slope = (problem.X - problem.X.mean(axis=0)).T @ (z - problem.y) / 200 / deviation
    strength = 0.2 * factors
    np.testing.assert_array_less(np.abs(slope), strength + 1e-6)
    held = coef != 0
    np.testing.assert_allclose(slope[held], -strength[held] * np.sign(coef[held]), atol=1e-6)
    assert (coef[[1, 5]] != 0).all()


@pytest.mark.parametrize("name", LOGISTIC)
@pytest.mark.parametrize("kind", ["wide scales", "constant columns", "collinear", "d > n", "one feature"])
def test_hard_data(name, kind):
    problem = classification(40, 90) if kind == "d > n" else classification(150, 6)
    X = problem.X.copy()
    if kind == "wide scales":
        X *= np.logspace(-8, 8, 6)
    elif kind == "constant columns":
        X[:, 2], X[:, 4] = 0.0, 1e6
    elif kind == "collinear":
        X = np.column_stack([X, X[:, 0], X[:, 1] - 2 * X[:, 2]])
    elif kind == "one feature":
        X = X[:, :1]
    _, _, result = solved(
        problem._replace(X=X),
        "logistic_regression",
        name,
        Rules(50_000, 1e-9),
        alpha=0.02,
        l1_ratio=1.0,
        with_std=True,
    )
    assert result.converged, result.certificate


@pytest.mark.parametrize("name", LOGISTIC)
def test_the_same_bits_on_any_number_of_ranks(name):
    problem = classification(300, 12, weighted=True)

    def program(comm):
        return digest(
            solved(problem, "logistic_regression", name, Rules(300, 1e-9), comm, alpha=0.02, l1_ratio=1.0)[2]
        )

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("name", LINEAR)
def test_resume_from_any_iteration(name):
    problem = regression(200, 12)
    objective, _ = model_objective(problem, "linear_regression", alpha=0.05, l1_ratio=1.0)
    rules, loops = Rules(60, 1e-12), []
    whole = run_solver(objective, make_solver(name), rules, callback=lambda p: loops.append(to_tree(p.loop)))
    for tree in loops:
        loop = from_tree(LoopState, tree)
        solver = make_solver(name)
        loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
        assert digest(run_solver(objective, solver, rules, loop=loop)) == digest(whole)


def test_the_gram_matrix_needs_one_step_and_one_pass():
    problem = regression(200, 12)
    counting = CountingCommunicator(SERIAL)
    objective, _ = model_objective(problem, "linear_regression", alpha=0.05, l1_ratio=1.0)
    objective = same(objective, data=Grid(problem, counting))
    taken = []
    result = run_solver(
        objective, make_solver("gram"), Rules(10, 1e-6), callback=lambda _: taken.append(dict(counting.calls))
    )
    assert (result.converged, result.n_iter) == (True, 1)
    assert taken == [{"allreduce": 2}, {"allreduce": 3}]


def test_proximal_newton_takes_the_hessian_of_few_columns():
    problem = regression(400, 60)
    objective, _ = model_objective(problem, "linear_regression", alpha=0.4, l1_ratio=1.0)
    sizes = []
    result = run_solver(
        objective,
        make_solver("prox_newton"),
        TIGHT,
        callback=lambda p: sizes.append(p.loop.solver.columns.size),
    )
    assert result.converged
    assert max(sizes) < 40
    assert result.n_iter <= 8


@pytest.mark.parametrize("kind", ["linear_regression", "logistic_regression"])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-3, 0.1, 2.0]),
    l2=st.sampled_from([0.0, 0.05]),
    box=st.booleans(),
)
def test_the_gap_bounds_the_distance_to_the_optimum(kind, seed, scale, l2, box):
    problem = (regression if kind == "linear_regression" else classification)(weighted=True)
    objective = plain_objective(problem, kind)
    bounds = {"lower": -0.2, "upper": 0.4} if box else {}
    objective = same(objective, penalty=make_penalty(6, l2, 0.05, **bounds))
    best = run_solver(objective, make_solver("prox_newton"), Rules(500, 1e-11)).objective
    w = np.random.default_rng(seed).normal(size=7) * scale
    w[:6] = np.clip(w[:6] * (np.random.default_rng(seed + 1).random(6) < 0.6), *(bounds.values() or (-9, 9)))
    reference = make_reference(objective.evaluate(np.zeros(7)))
    point, certificate = certify(objective, reference, objective.evaluate(w))
    assert certificate.kind == "duality_gap"
    assert certificate.gap >= point.value - best - 1e-10


@pytest.mark.parametrize("name", ["gd", "lbfgs", "newton"])
def test_solvers_that_need_a_gradient_refuse(name):
    objective, _ = model_objective(regression(), "linear_regression", alpha=0.1, l1_ratio=0.5)
    with pytest.raises(SpecError, match=f"solver {name} needs a penalty with a gradient"):
        choose_solver(name, objective)


def test_gram_refuses_other_losses():
    objective, _ = model_objective(classification(), "logistic_regression", alpha=0.1)
    with pytest.raises(SpecError, match="solver gram is for the squared loss, and the loss is logistic"):
        choose_solver("gram", objective)


def test_auto():
    rough, _ = model_objective(regression(), "linear_regression", alpha=0.1, l1_ratio=0.5)
    assert choose_solver("auto", rough)[0].name == "gram"
    wide, _ = model_objective(regression(20, 1001), "linear_regression", alpha=0.1, l1_ratio=0.5)
    assert choose_solver("auto", wide)[0].name == "prox_newton"
    classes, _ = model_objective(classification(), "logistic_regression", alpha=0.1, lower=0.0)
    assert choose_solver("auto", classes)[0].name == "prox_newton"
