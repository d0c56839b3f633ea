"""Every solver finds the certified optimum, to the same bits on any number of ranks and after any resume."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from algorithms.problems import (
    PROBLEMS,
    Grid,
    Problem,
    amounts,
    amounts_and_zeros,
    as_csr,
    classification,
    counts,
    in_memory,
    model_objective,
    regression,
    rows_of,
    same,
)
from scipy.optimize import minimize

from hpcml.algorithms.choice import SOLVERS, choose_solver, make_solver
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.errors import SpecError

KINDS = list(PROBLEMS)
ANY_LOSS = [name for name in SOLVERS if name not in ("gram", "fista")]  # fista is nesterov by another name
SAME_BITS = pytest.mark.parametrize("name", [name for name in ANY_LOSS if name != "async_admm"])
EACH = pytest.mark.parametrize("name", ANY_LOSS)


def digest(result):
    return hashlib.sha256(result.w.tobytes() + np.float64(result.objective).tobytes()).hexdigest()


def collinear():
    problem = regression(d=4)
    X = np.column_stack([problem.X, problem.X[:, 0], problem.X[:, 1] - 2 * problem.X[:, 2]])
    return problem._replace(X=X)


def scaled(problem):
    return problem._replace(X=problem.X * np.logspace(-8, 8, 6))


def with_constants(problem):
    X = problem.X.copy()
    X[:, 2], X[:, 4] = 0.0, 1e6
    return problem._replace(X=X)


DATA = {
    "logistic": ("logistic_regression", classification()),
    "logistic, weighted, CSR": ("logistic_regression", as_csr(classification(weighted=True))),
    "least squares": ("linear_regression", regression()),
    "least squares, weighted": ("linear_regression", regression(weighted=True)),
    "wide scales": ("logistic_regression", scaled(classification())),
    "constant columns": ("logistic_regression", with_constants(classification())),
    "collinear": ("linear_regression", collinear()),
    "d > n": ("linear_regression", regression(20, 50)),
    "one feature": ("logistic_regression", classification(80, 1)),
    "squared hinge": ("linear_svc", classification()),
    "squared hinge, weighted, CSR": ("linear_svc", as_csr(classification(weighted=True))),
    "Poisson": ("poisson_regression", counts()),
    "Poisson, weighted, CSR": ("poisson_regression", as_csr(counts(weighted=True))),
    "Poisson, wide scales": ("poisson_regression", scaled(counts())),
    "Poisson, constant columns": ("poisson_regression", with_constants(counts())),
    "Poisson, d > n": ("poisson_regression", counts(20, 50)),
    "gamma": ("gamma_regression", amounts(weighted=True)),
    "gamma, CSR": ("gamma_regression", as_csr(amounts())),
    "Tweedie": ("tweedie_regression", amounts_and_zeros()),
    "Tweedie, weighted, CSR": ("tweedie_regression", as_csr(amounts_and_zeros(weighted=True))),
    "one row": ("linear_regression", Problem(np.array([[2.0, 3.0]]), np.array([5.0]))),
}


def is_refused(name, objective):
    """A loss of unbounded curvature is not for ADMM and SGD, which say so."""
    if name not in ("admm", "async_admm", "sgd") or np.isfinite(objective.loss.max_curvature):
        return False
    with pytest.raises(
        SpecError, match=rf"solver {name} needs a loss of bounded curvature, and the loss is \w+"
    ):
        choose_solver(name, objective)
    return True


def standardised_optimum(problem, kind, alpha, guess):
    """Minimise the plain formula over standardised features, from another start, with SciPy."""
    X = problem.X.toarray() if hasattr(problem.X, "toarray") else problem.X
    s = np.ones(len(problem.y)) if problem.weight is None else problem.weight
    s = s / s.sum()
    mean = s @ X
    std = np.sqrt(s @ (X - mean) ** 2)
    std[std < 1e-9 * np.abs(mean) + 1e-300] = 1.0
    U = np.column_stack([(X - mean) / std, np.ones(len(X))])
    strength = np.append(np.full(X.shape[1], alpha), 0.0)

    def value_and_gradient(w):
        value, r, _ = rows_of(kind, U @ w, problem.y)
        return s @ value + 0.5 * strength @ w**2, U.T @ (s * r) + strength * w

    w = guess
    for _ in range(3):
        w = minimize(value_and_gradient, w, jac=True, method="BFGS", options={"gtol": 1e-13}).x
    return value_and_gradient(w)[0], w


@EACH
@pytest.mark.parametrize(("kind", "problem"), DATA.values(), ids=DATA)
def test_the_certified_optimum(name, kind, problem):
    alpha = 0.01
    objective, asked = model_objective(problem, kind, alpha=alpha, with_mean=True, with_std=True)
    if is_refused(name, objective):
        return
    result = run_solver(objective, make_solver(name), Rules(5000, 1e-12))
    assert result.converged, result.reason
    assert result.certificate.value <= 1e-12
    best, w = standardised_optimum(problem, kind, alpha, np.zeros(problem.X.shape[1] + 1))
    assert result.objective == pytest.approx(best, rel=1e-9, abs=1e-11)
    coef, _ = objective.to_raw(result.w)
    np.testing.assert_allclose(coef * asked.scale, w[:-1], atol=2e-5 * max(1.0, np.abs(w).max()))


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_penalty(name, kind):
    objective, _ = model_objective(PROBLEMS[kind](), kind, alpha=0.0)
    if is_refused(name, objective):
        return
    result = run_solver(objective, make_solver(name), Rules(5000, 1e-7))
    assert result.converged
    assert result.certificate.kind == "kkt"
    best, _ = standardised_optimum(PROBLEMS[kind](), kind, 0.0, np.zeros(7))
    assert result.objective == pytest.approx(best, rel=1e-10)


@SAME_BITS
@pytest.mark.parametrize("dataset", [Grid, in_memory])
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(name, dataset, make):
    problem = make(classification(weighted=True))

    def program(comm):
        objective, _ = model_objective(problem, "logistic_regression", comm, dataset, alpha=0.01)
        return digest(run_solver(objective, make_solver(name), Rules(60, 1e-9)))

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_one_message_an_iteration(name, kind):
    """Two in the first; more only where a step is refused."""
    problem = PROBLEMS[kind]()
    counting = CountingCommunicator(SerialCommunicator())
    objective, _ = model_objective(problem, kind, alpha=0.1)
    objective = same(objective, data=Grid(problem, counting))
    if is_refused(name, objective):
        return
    taken = []

    def note(progress):
        taken.append(counting.calls["allreduce"])
        counting.calls.clear()

    result = run_solver(objective, make_solver(name), Rules(200, 1e-6), callback=note)
    assert result.converged
    assert 2 <= taken[0] <= {"nesterov": 6, "prox_newton": 4, "sgd": 18}.get(name, 2)
    steps = taken[1:]
    # A window that is missed costs two messages, a step that is refused three; most steps are neither.
    if name == "newton_cg":  # a message a product, one more for the first
        assert max(steps) <= 7 + 1 + 1 + 3
    elif name == "sgd":  # a message a batch, of which there are 4; windows are missed as changes shrink
        assert set(steps) <= set(range(5, 5 + 2 * 4))
        assert np.median(steps) <= 6
    else:
        assert set(steps) <= {1, 3, 4, 6}
        assert np.median(steps) == 1
    assert set(counting.calls) <= {"allreduce"}
    if (name, kind) == ("newton", "linear_regression"):
        assert len(steps) == 1


@SAME_BITS
def test_resume_from_any_iteration(name):
    problem = classification(weighted=True)
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.01)
    trees = []
    whole = run_solver(
        objective, make_solver(name), Rules(40, 1e-10), callback=lambda p: trees.append(to_tree(p.loop))
    )
    for i, tree in enumerate(trees):
        assert tree["n_iter"] == i or tree["n_iter"] == trees[i - 1]["n_iter"]

        def program(comm, tree=tree):
            part, _ = model_objective(problem, "logistic_regression", comm, alpha=0.01)
            solver = make_solver(name)
            loop = from_tree(LoopState, copied(tree))
            loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
            return run_solver(part, solver, Rules(40, 1e-10), loop=loop)

        size = 1 + i % 3
        for result in run_threads(size, program):
            assert digest(result) == digest(whole)
            assert (result.n_iter, result.certificate) == (whole.n_iter, whole.certificate)


def copied(tree):
    """What a checkpoint gives back: arrays and numbers alone."""
    if isinstance(tree, dict):
        return {name: copied(value) for name, value in tree.items()}
    return np.array(tree) if isinstance(tree, np.ndarray) else type(tree)(tree)


@EACH
def test_max_iter_is_not_convergence(name):
    objective, _ = model_objective(classification(), "logistic_regression", alpha=1e-6)
    few = 1 if name == "async_admm" else 2  # a step of which has several passes
    result = run_solver(objective, make_solver(name), Rules(few, 1e-14))
    assert (result.converged, result.n_iter, result.reason) == (False, few, "max_iter was reached")
    assert result.certificate.value > 1e-14


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_a_tolerance_below_rounding_ends(name, kind):
    objective, _ = model_objective(PROBLEMS[kind](), kind, alpha=0.1)
    if is_refused(name, objective):
        return
    result = run_solver(objective, make_solver(name), Rules(150, 1e-60))
    assert not result.converged
    assert result.certificate.value < 1e-25
    stuck = "no step improves the objective: rounding limits the certificate"
    if kind == "linear_regression" and name != "gd":  # the others may wander within rounding
        assert result.reason == stuck
    assert result.reason in (stuck, "max_iter was reached")


@EACH
def test_separable_data_without_a_penalty(name):
    """No optimum exists: the run ends, and says converged only with the certificate."""
    X = np.linspace(-1, 1, 40)[:, None]
    problem = Problem(X, (X[:, 0] > 0).astype(float))
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.0)
    with np.errstate(over="ignore"):
        result = run_solver(objective, make_solver(name), Rules(300, 1e-6))
    assert np.isfinite(result.w).all()
    assert result.converged == (result.certificate.value <= 1e-6)


@EACH
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_numbers_too_large_for_squares(name):
    problem = Problem(np.array([[1e200], [-1e200], [3e199]]), np.array([1.0, 0.0, 1.0]))
    objective, _ = model_objective(problem, "logistic_regression", alpha=0.1)
    result = run_solver(objective, make_solver(name), Rules(50, 1e-6))
    assert result.converged == bool(result.certificate.value <= 1e-6)
    assert result.reason


@EACH
def test_an_optimum_at_the_start(name):
    problem = Problem(np.array([[1.0], [-1.0]]), np.array([0.0, 0.0]))
    objective, _ = model_objective(problem, "linear_regression", alpha=0.1)
    result = run_solver(objective, make_solver(name), Rules(10, 1e-6))
    assert result.converged
    assert result.n_iter == 0
    assert not result.w.any()


@EACH
def test_another_start(name):
    objective, _ = model_objective(classification(), "logistic_regression", alpha=0.1)
    cold = run_solver(objective, make_solver(name), Rules(500, 1e-12))
    warm = run_solver(objective, make_solver(name), Rules(500, 1e-12), w=cold.w)
    assert warm.converged
    assert warm.n_iter <= 2
    assert warm.loop.reference == cold.loop.reference
    np.testing.assert_allclose(warm.w, cold.w, atol=1e-5)


def test_a_time_limit():
    objective, _ = model_objective(classification(), "logistic_regression", alpha=1e-6)
    result = run_solver(objective, make_solver("gd"), Rules(100, 1e-14, stopped=lambda: True))
    assert (result.n_iter, result.converged, result.timed) == (1, False, True)
    assert result.reason == "the time limit was reached"


def test_the_least_norm_of_many_solutions():
    problem = regression(20, 50)
    objective, _ = model_objective(problem, "linear_regression", alpha=0.0)
    result = run_solver(objective, make_solver("newton"), Rules(10, 1e-9))
    coef, intercept = objective.to_raw(result.w)
    mean = problem.X.mean(axis=0)
    expected = np.linalg.lstsq(problem.X - mean, problem.y - problem.y.mean(), rcond=None)[0]
    np.testing.assert_allclose(coef, expected, atol=1e-8)
    assert intercept == pytest.approx(problem.y.mean() - mean @ expected)


def test_auto_follows_the_number_of_features():
    few, _ = model_objective(regression(20, 200), "linear_regression", alpha=0.1)
    many, _ = model_objective(regression(20, 201), "linear_regression", alpha=0.1)
    assert choose_solver("auto", few)[0].name == "newton"
    solver, why = choose_solver("auto", many)
    assert solver.name == "newton_cg"
    assert "201" in why
    assert choose_solver("lbfgs", few, 7)[0].memory == 7
    assert [choose_solver(name, few)[0].name for name in SOLVERS] == list(SOLVERS)


def test_a_tree_with_other_fields_is_refused():
    objective, _ = model_objective(classification(), "logistic_regression", alpha=0.1)
    tree = to_tree(run_solver(objective, make_solver("gd"), Rules(1, 1e-3)).loop)
    for wrong in (tree | {"more": 1}, {name: tree[name] for name in list(tree)[1:]}):
        with pytest.raises(KeyError, match="LoopState has the fields"):
            from_tree(LoopState, wrong)
