"""Every loss, penalty and solver, dense and CSR: the certified optimum, or a refusal by name."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import sklearn.linear_model as twins
from algorithms.problems import POWER, PROBLEMS, as_csr, model_objective, naive
from algorithms.reference import optimum

from hpcml.algorithms.choice import SOLVERS, choose_solver, make_solver
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.errors import SpecError

KINDS = list(PROBLEMS)
NAMES = [name for name in SOLVERS if name != "fista"]  # nesterov by another name
FACTORS = np.array([1.0, 0.0, 3.0, 1.0, 0.5, 0.0])
PENALTIES = {
    "none": {"alpha": 0.0},
    "l2": {"alpha": 0.05},
    "l1": {"alpha": 0.04, "l1_ratio": 1.0},
    "elastic net": {"alpha": 0.06, "l1_ratio": 0.5},
    "box": {"alpha": 0.0, "lower": -0.1, "upper": 0.2},
    "positive": {"alpha": 0.02, "lower": 0.0},
    "l2 by feature": {"alpha": 0.05, "factors": FACTORS},
    "l1 by feature": {"alpha": 0.05, "l1_ratio": 1.0, "factors": FACTORS},
}
ROUGH = {"l1", "elastic net", "box", "positive", "l1 by feature"}
BOUNDED = {"linear_regression", "logistic_regression", "linear_svc"}
RULES = Rules(20_000, 1e-11)


def problem_of(kind):
    return PROBLEMS[kind](weighted=True)


def refusal(name, kind, penalty):
    """What the sentence of a refusal begins with, empty where the pair is allowed."""
    if name in ("gd", "lbfgs", "newton", "newton_cg") and penalty in ROUGH:
        return f"solver {name} needs a penalty with a gradient"
    if name == "gram" and kind != "linear_regression":
        return "solver gram is for the squared loss"
    if name in ("admm", "async_admm", "sgd") and kind not in BOUNDED:
        return f"solver {name} needs a loss of bounded curvature"
    return ""


@cache
def expected(kind, penalty):
    keys = {"l1_ratio": 0.0, "factors": 1.0, "lower": -np.inf, "upper": np.inf} | PENALTIES[penalty]
    alpha = keys.pop("alpha") * np.asarray(keys.pop("factors"))
    ratio = keys.pop("l1_ratio")
    return optimum(problem_of(kind), kind, alpha * (1 - ratio), alpha * ratio, **keys)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_certified_optimum(kind, penalty, name, make):
    objective, _ = model_objective(make(problem_of(kind)), kind, **PENALTIES[penalty])
    sentence = refusal(name, kind, penalty)
    if sentence:
        with pytest.raises(SpecError, match=sentence):
            choose_solver(name, objective)
        return
    result = run_solver(objective, choose_solver(name, objective)[0], RULES)
    assert result.converged, (result.reason, result.certificate)
    assert result.certificate.value <= RULES.tol
    coef, intercept = expected(kind, penalty)
    found = np.append(*objective.to_raw(result.w))
    np.testing.assert_allclose(found, np.append(coef, intercept), atol=2e-5, rtol=2e-5)
    if penalty in ROUGH and name != "nesterov":
        np.testing.assert_array_equal(found[:-1] == 0, coef == 0)


def tight(model):
    return model.set_params(tol=1e-13, max_iter=100_000)


def twin_of(kind, penalty):
    """scikit-learn's model of the same objective, none where it has none."""
    keys = PENALTIES[penalty]
    ratio, alpha = keys.get("l1_ratio", 0.0), keys["alpha"]
    total = problem_of(kind).weight.sum()
    if kind == "linear_regression":
        models = {"none": twins.LinearRegression(), "l2": twins.Ridge(alpha * total)}
        models["l1"] = models["elastic net"] = twins.ElasticNet(alpha, l1_ratio=ratio)
    elif kind == "logistic_regression":
        strength = {"C": 1 / (alpha * total) if alpha else np.inf}
        models = dict.fromkeys(["none", "l2"], twins.LogisticRegression(solver="newton-cholesky", **strength))
        saga = twins.LogisticRegression(solver="saga", l1_ratio=ratio, **strength)
        models["l1"] = models["elastic net"] = saga
    else:
        powers = {"poisson_regression": 1.0, "gamma_regression": 2.0, "tweedie_regression": POWER}
        glm = twins.TweedieRegressor(power=powers[kind], alpha=alpha, link="log", solver="newton-cholesky")
        models = dict.fromkeys(["none", "l2"], glm)
    return models.get(penalty)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear_svc"])
@pytest.mark.parametrize("penalty", ["none", "l2", "l1", "elastic net"])
def test_the_reference_is_scikit_learns(kind, penalty):
    """Its classifier of squared hinges penalises the intercept and is compared without one elsewhere."""
    X, y, weight = problem_of(kind)
    twin = twin_of(kind, penalty)
    if twin is None:
        assert penalty in ROUGH
        return
    if hasattr(twin, "max_iter"):
        tight(twin)
    twin.fit(X, y, sample_weight=weight)
    coef, intercept = expected(kind, penalty)
    np.testing.assert_allclose(twin.coef_.ravel(), coef, atol=1e-6)
    np.testing.assert_allclose(np.ravel(twin.intercept_)[0], intercept, atol=1e-6)


# How rows may be written down without a change of the model.


def without_zero_weights(problem):
    kept = problem.weight > 0
    return problem._replace(X=problem.X[kept], y=problem.y[kept], weight=problem.weight[kept])


def repeated(problem):
    times = problem.weight.astype(int)
    return problem._replace(X=problem.X.repeat(times, axis=0), y=problem.y.repeat(times), weight=None)


def twice(problem):
    return type(problem)(*(np.concatenate([part, part]) for part in problem))


def shards_permuted(problem):
    """Shards of 32 rows, and the rows left over, in another order."""
    order = np.concatenate([np.arange(150)[at : at + 32] for at in (64, 0, 128, 96, 32)])
    return type(problem)(*(part[order] for part in problem))


def columns_permuted(problem):
    return problem._replace(X=problem.X[:, ::-1])


CHANGES = [without_zero_weights, repeated, twice, shards_permuted, columns_permuted]
PAIRS = [
    (kind, penalty, name)
    for kind, penalty in [
        ("logistic_regression", "l1"),
        ("linear_regression", "box"),
        ("poisson_regression", "elastic net"),
        ("tweedie_regression", "l2"),
        ("linear_svc", "l2"),
    ]
    for name in NAMES
    if not refusal(name, kind, penalty)
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(("kind", "penalty", "name"), PAIRS)
def test_the_same_rows_in_other_words(kind, penalty, name, change):
    objective, _ = model_objective(change(problem_of(kind)), kind, **PENALTIES[penalty])
    result = run_solver(objective, make_solver(name), RULES)
    assert result.converged, (result.reason, result.certificate)
    found, intercept = objective.to_raw(result.w)
    coef, constant = expected(kind, penalty)
    found = found[::-1] if change is columns_permuted else found
    np.testing.assert_allclose(found, coef, atol=2e-5, rtol=2e-5)
    assert intercept == pytest.approx(constant, abs=2e-5)


# Data on which weights are not unique, or hard to find: the certificate, and the objective by its formula.


def hard(kind, what):
    X, y, weight = PROBLEMS[kind](40, 60, weighted=True) if what == "d > n" else PROBLEMS[kind](weighted=True)
    if what == "wide scales":
        X = X * np.logspace(-8, 8, 6)
    elif what == "constant columns":
        X = np.column_stack([X, np.zeros(len(X)), np.full(len(X), 1e6)])
    elif what == "collinear columns":
        X = np.column_stack([X, X[:, 0], X[:, 1] - 2 * X[:, 2]])
    elif what == "one feature":
        X = X[:, :1]
    elif what == "separable":
        X = np.column_stack([X, 3 * (y > np.median(y)) - 1.0])
    return type(PROBLEMS[kind]())(X, y, weight)


HARD = ["wide scales", "constant columns", "collinear columns", "one feature", "d > n", "separable"]


@pytest.mark.parametrize("what", HARD)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "logistic_regression"])
def test_hard_data_with_an_l1_part(kind, what):
    """The logistic loss is with the tests of rough penalties."""
    problem, alpha, ratio = hard(kind, what), 0.05, 0.9
    scale = np.sqrt(np.average((problem.X - mean_of(problem)) ** 2, axis=0, weights=problem.weight))
    scale[scale < 1e-9 * np.abs(problem.X).max(axis=0) + 1e-300] = 1.0
    values, gaps = {}, {}
    for name in [name for name in NAMES if not refusal(name, kind, "elastic net")]:
        keys = {"alpha": alpha, "l1_ratio": ratio, "with_mean": True, "with_std": True}
        objective, _ = model_objective(problem, kind, **keys)
        result = run_solver(objective, make_solver(name), Rules(50_000, 1e-6))
        assert result.converged, (name, result.reason, result.certificate)
        coef, intercept = objective.to_raw(result.w)
        l2 = alpha * (1 - ratio) * scale**2
        values[name] = naive(problem, kind, l2, coef, intercept)[0] + alpha * ratio * scale @ np.abs(coef)
        assert values[name] == pytest.approx(result.objective, rel=1e-9)
        gaps[name] = result.certificate.gap
    for name, value in values.items():
        assert value - min(values.values()) <= gaps[name] + 1e-12


def mean_of(problem):
    return np.average(problem.X, axis=0, weights=problem.weight)
