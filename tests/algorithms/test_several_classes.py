"""Softmax over several classes: loss, objective, solvers and certificate, against formulas and SciPy."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from algorithms.problems import SERIAL, Grid, Problem, as_csr, in_memory, model_objective, same
from algorithms.test_solvers import copied, digest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp

from hpcml.algorithms.certificate import certify, make_reference
from hpcml.algorithms.choice import SOLVERS, choose_solver, make_solver
from hpcml.algorithms.hessian_product import make_hessian_product
from hpcml.algorithms.kernels.choice import VARIABLE, available
from hpcml.algorithms.linear_model import LinearModel, make_model, model_from_arrays
from hpcml.algorithms.losses.kinds import make_loss
from hpcml.algorithms.losses.softmax import Softmax
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.errors import DataError, SpecError

KIND = "logistic_regression"
SMOOTH = ["gd", "nesterov", "lbfgs", "newton_cg"]
ROUGH = {"l1": {"l1_ratio": 1.0}, "elastic net": {"l1_ratio": 0.4}, "box": {"lower": -0.2, "upper": 0.3}}


def classes_of(n=150, d=5, k=4, seed=0, weighted=False):
    """Rows of k classes, labelled 2, 3, ...; in order, so that no shard has all of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    z = X @ rng.normal(size=(d, k)) + rng.gumbel(size=(n, k)) + np.linspace(0, 1, k)
    order = np.argsort(z.argmax(axis=1), kind="stable")
    y = z.argmax(axis=1)[order] + 2.0
    return Problem(X[order], y, rng.integers(0, 4, n).astype(float) if weighted else None)


def naive(problem, W, b, alpha=0.0):
    """F and its gradient in W (k, d) and b (k,), by the formula; alpha is the l2 strength."""
    X = problem.X.toarray() if hasattr(problem.X, "toarray") else np.asarray(problem.X, float)
    s = np.ones(len(X)) if problem.weight is None else problem.weight
    s = s / s.sum()
    own = problem.y[:, None] == np.unique(problem.y)
    z = X @ W.T + b
    value = s @ (logsumexp(z, axis=1) - z[own]) + 0.5 * alpha * (W**2).sum()
    slope = s[:, None] * (np.exp(z - logsumexp(z, axis=1, keepdims=True)) - own)
    return value, slope.T @ X + alpha * W, slope.sum(axis=0)


def best_value(problem, alpha):
    """The least F, by SciPy."""
    k, d = np.unique(problem.y).size, problem.X.shape[1]

    def value_and_gradient(w):
        value, in_w, in_b = naive(problem, w[: k * d].reshape(k, d), w[k * d :], alpha)
        return value, np.append(in_w.ravel(), in_b)

    w = np.zeros(k * d + k)
    for _ in range(3):
        w = minimize(value_and_gradient, w, jac=True, method="BFGS", options={"gtol": 1e-12}).x
    return value_and_gradient(w)[0]


TIGHT = Rules(20000, 1e-11)


def solved(objective, name, rules=TIGHT):
    return run_solver(objective, make_solver(name), rules)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=6), st.integers(0, 2), st.floats(-1e4, 1e4))
def test_the_loss(z, y, shift):
    z, labels = np.array([z]), np.array([float(y)])
    loss = Softmax(tuple(np.arange(z.size, dtype=float)))
    value, slope, p = loss.terms(z, labels)
    own = np.eye(z.size)[y]
    assert value == pytest.approx(logsumexp(z) - z[0, y], rel=1e-9, abs=1e-13)
    np.testing.assert_allclose(p[0], np.exp(z[0] - logsumexp(z)), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(slope[0], p[0] - own, atol=1e-15)
    assert abs(slope.sum()) < 1e-15
    np.testing.assert_allclose(loss.terms(z + shift, labels).slope, slope, atol=1e-10)


def test_a_loss_that_is_nearly_nothing_keeps_its_digits():
    value, slope, _ = Softmax((0.0, 1.0, 2.0)).terms(np.array([[50.0, 0.0, 0.0]]), np.zeros(1))
    assert value[0] == pytest.approx(2 * np.exp(-50), rel=1e-12)
    assert slope[0, 0] == pytest.approx(-2 * np.exp(-50), rel=1e-12)


@pytest.mark.parametrize("kernels", available())
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("intercept", [True, False])
def test_value_and_gradient(monkeypatch, kernels, make, intercept):
    monkeypatch.setenv(VARIABLE, kernels)
    problem = make(classes_of(weighted=True))
    keys = {"alpha": 0.1, "fit_intercept": intercept, "with_std": True, "with_mean": intercept}
    objective, asked = model_objective(problem, KIND, **keys)
    assert objective.n_parameters == 4 * 5 + 4 * intercept
    w = np.random.default_rng(0).normal(size=objective.n_parameters)
    coef, b = objective.to_raw(w)
    X = problem.X.toarray() if hasattr(problem.X, "toarray") else problem.X
    value, in_w, in_b = naive(problem._replace(X=(X - asked.mean) / asked.scale), coef * asked.scale,
                              b + coef @ asked.mean, 0.1)  # fmt: skip
    point = objective.evaluate(w)
    assert point.value == pytest.approx(value, rel=1e-12)
    # d/dw of the weights that solvers see is that of the user's, divided by their own scale.
    expected = in_w * asked.scale / objective.scaling.scale
    if not intercept:
        np.testing.assert_allclose(point.gradient, expected.ravel(), rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(point.gradient[20:], in_b, atol=1e-13)
    e, step = np.eye(objective.n_parameters)[3], 1e-5
    slope = (objective.evaluate(w + step * e).value - objective.evaluate(w - step * e).value) / (2 * step)
    assert point.gradient[3] == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert objective.from_raw(coef, b) == pytest.approx(w, rel=1e-9, abs=1e-12)


def test_products_of_the_hessian_are_differences_of_gradients():
    objective, _ = model_objective(classes_of(weighted=True), KIND, alpha=0.1)
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(2, objective.n_parameters))
    product, step = make_hessian_product(objective, w)(v), 1e-6
    there, back = (objective.evaluate(w + sign * step * v).gradient for sign in (1, -1))
    np.testing.assert_allclose(product, (there - back) / (2 * step), rtol=1e-6, atol=1e-8)


def test_values_on_a_line():
    objective, _ = model_objective(classes_of(weighted=True), KIND, alpha=0.1, l1_ratio=0.5)
    w, p = np.random.default_rng(0).normal(size=(2, objective.n_parameters))
    steps = np.array([0.0, 0.3, -2.0, 1e3])
    expected = [objective.evaluate(w + t * p).value for t in steps]
    np.testing.assert_allclose(objective.line(w, p).values(steps), expected, rtol=1e-12)


DATA = {
    "weighted": classes_of(weighted=True),
    "CSR": as_csr(classes_of(weighted=True)),
    "float32": classes_of()._replace(X=classes_of().X.astype(np.float32)),
    "collinear": classes_of()._replace(X=np.column_stack([classes_of().X, classes_of().X[:, 0]])),
    "constant columns": classes_of()._replace(X=np.column_stack([classes_of().X, np.full(150, 1e3)])),
    "wide scales": classes_of()._replace(X=classes_of().X * np.logspace(-4, 4, 5)),
    "one row a class": classes_of(4, 3)._replace(y=np.arange(4.0)),
    "one feature": classes_of(d=1),
    "many classes": classes_of(200, 2, 12),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("case", DATA)
def test_the_certified_optimum(name, case):
    problem = DATA[case]
    if case == "wide scales":
        objective, asked = model_objective(problem, KIND, alpha=0.02, with_std=True)
        X = np.asarray(problem.X) / asked.scale
        best = best_value(problem._replace(X=X), 0.02)
    else:
        objective, _ = model_objective(problem, KIND, alpha=0.02)
        best = best_value(problem, 0.02) if case != "constant columns" else None
    result = solved(objective, name)
    assert result.converged, result.reason
    assert (result.certificate.kind, result.certificate.value <= 1e-11) == ("duality_gap", True)
    if best is not None:
        assert result.objective == pytest.approx(best, rel=1e-9)
        assert result.certificate.gap >= result.objective - best - 1e-12


@pytest.mark.parametrize("name", SMOOTH)
def test_without_a_penalty(name):
    result = solved(model_objective(classes_of(400), KIND, alpha=0.0)[0], name, Rules(5000, 1e-7))
    assert result.converged
    assert result.certificate.kind == "kkt"
    assert result.objective == pytest.approx(best_value(classes_of(400), 0.0), rel=1e-10)


@pytest.mark.parametrize("rough", ROUGH)
@pytest.mark.parametrize("intercept", [True, False])
def test_penalties_with_a_rough_part(rough, intercept):
    """The certificate is a proof; SciPy's bounded solver, on parts that are not negative, agrees."""
    problem, alpha = classes_of(weighted=True), 0.03
    objective, _ = model_objective(problem, KIND, alpha=alpha, fit_intercept=intercept, **ROUGH[rough])
    result = solved(objective, "fista", Rules(20000, 1e-10))
    assert result.converged
    assert result.certificate.kind == "duality_gap"
    coef, b = objective.to_raw(result.w)
    ratio = ROUGH[rough].get("l1_ratio", 0.0)
    high, low = ROUGH[rough].get("upper", np.inf), -ROUGH[rough].get("lower", -np.inf)

    def value_and_gradient(w):
        up, down, b = np.split(w, [20, 40])
        W = (up - down).reshape(4, 5)
        value, in_w, in_b = naive(problem, W, b, alpha * (1 - ratio))
        value += alpha * ratio * w[:40].sum()
        both = np.append(in_w.ravel(), -in_w.ravel()) + alpha * ratio
        return value, np.append(both, in_b * intercept)

    bounds = [(0, high)] * 20 + [(0, low)] * 20 + [(None, None)] * 4
    options = {"maxiter": 5000, "maxfun": 50000, "ftol": 1e-15, "gtol": 1e-11}
    best = minimize(
        value_and_gradient, np.zeros(44), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    assert result.objective == pytest.approx(best.fun, rel=1e-7)
    assert result.objective <= best.fun + 1e-9
    if rough == "l1":
        assert (coef == 0).sum() > 3
    assert b == pytest.approx(np.zeros(4)) or intercept


@pytest.mark.parametrize("rough", [{}, *ROUGH.values()], ids=["l2", *ROUGH])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 0.3, 3.0, 100.0]))
def test_the_gap_bounds_the_distance_to_the_optimum(rough, seed, scale):
    objective, _ = model_objective(classes_of(weighted=True), KIND, alpha=0.05, **rough)
    best = _BEST.setdefault(str(rough), solved(objective, "fista", Rules(20000, 1e-12)).objective)
    w = np.random.default_rng(seed).normal(size=objective.n_parameters) * scale
    w[:20] = objective.penalty.prox(w[:20], 0.1)
    reference = make_reference(objective.evaluate(objective.first_w))
    point, found = certify(objective, reference, objective.evaluate(w))
    assert found.kind == "duality_gap"
    assert found.gap >= point.value - best - 1e-10
    assert found.intercept_gradient <= 1e-9
    assert point.value <= objective.evaluate(w).value + 1e-12


_BEST: dict = {}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dataset", [Grid, in_memory])
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(name, dataset, make):
    problem = make(classes_of(weighted=True))

    def program(comm):
        objective, _ = model_objective(problem, KIND, comm, dataset, alpha=0.01)
        return digest(solved(objective, name, Rules(60, 1e-9)))

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5, 9):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("name", [*SMOOTH, "fista"])
def test_resume_from_any_iteration(name):
    problem, trees = classes_of(weighted=True), []
    keys = {"alpha": 0.01, "l1_ratio": 0.5 if name == "fista" else 0.0}
    objective, _ = model_objective(problem, KIND, **keys)
    rules, solver = Rules(9, 1e-10), make_solver(name)
    whole = run_solver(objective, solver, rules, callback=lambda p: trees.append(to_tree(p.loop)))
    for i, tree in enumerate(trees):

        def program(comm, tree=tree):
            part, _ = model_objective(problem, KIND, comm, **keys)
            loop = from_tree(LoopState, copied(tree))
            loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
            return run_solver(part, solver, rules, loop=loop)

        for result in run_threads(1 + i % 3, program):
            assert digest(result) == digest(whole)


@pytest.mark.parametrize("name", SMOOTH)
def test_one_message_an_iteration(name):
    problem, taken = classes_of(), []
    counting = CountingCommunicator(SERIAL)
    objective, _ = model_objective(problem, KIND, alpha=0.1)
    objective = same(objective, data=Grid(problem, counting))

    def note(progress):
        taken.append(counting.calls["allreduce"])
        counting.calls.clear()

    assert run_solver(objective, make_solver(name), Rules(300, 1e-6), callback=note).converged
    assert np.median(taken[1:]) == 1 or name == "newton_cg"  # a message a product, there
    assert max(taken[1:]) <= 30


@pytest.mark.parametrize("name", SMOOTH)
def test_separable_classes_without_a_penalty(name):
    """No optimum exists: the run ends, and says converged only with the certificate."""
    X = np.repeat(np.eye(3), 10, axis=0)
    objective, _ = model_objective(Problem(X, np.repeat([0.0, 1.0, 2.0], 10)), KIND, alpha=0.0)
    result = solved(objective, name, Rules(200, 1e-6))
    assert np.isfinite(result.w).all()
    assert result.converged == (result.certificate.value <= 1e-6)


def test_two_classes_are_the_binary_model_twice():
    """Weights of +-w / 2 with twice the strength give the binary objective."""
    problem = classes_of(k=2, weighted=True)
    problem = problem._replace(y=problem.y - 2)
    binary, _ = model_objective(problem, KIND, alpha=0.05)
    data = Grid(problem)
    penalty = make_penalty(10, np.tile(2 * binary.penalty.l2, 2))
    double = same(binary, data=data, loss=Softmax((0.0, 1.0)), penalty=penalty)
    one, two = solved(binary, "lbfgs"), solved(double, "lbfgs")
    assert two.objective == pytest.approx(one.objective, rel=1e-9)
    np.testing.assert_allclose(two.w[5:10] - two.w[:5], one.w[:5], atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SOLVERS if n not in (*SMOOTH, "fista")])
def test_solvers_that_need_the_whole_hessian_are_refused(name):
    objective, _ = model_objective(classes_of(), KIND, alpha=0.1)
    sentence = (
        "gram is for the squared loss" if name == "gram" else f"solver {name} does not take the softmax loss"
    )
    with pytest.raises(SpecError, match=sentence):
        choose_solver(name, objective)


def test_auto():
    smooth, _ = model_objective(classes_of(), KIND, alpha=0.1)
    rough, _ = model_objective(classes_of(), KIND, alpha=0.1, l1_ratio=0.5)
    assert choose_solver("auto", smooth)[0].name == "newton_cg"
    solver, why = choose_solver("auto", rough)
    assert solver.name == "fista"
    assert "4 classes" in why


def fitted():
    objective, asked = model_objective(classes_of(), KIND, alpha=0.1)
    result = solved(objective, "lbfgs")
    settings_of = type("Settings", (), {"kind": KIND, "power": 0.0, "delta": None})()
    return make_model(objective, result.w, settings_of, np.unique(classes_of().y), asked)


def test_the_model():
    model = fitted()
    assert (model.coef.shape, model.intercept.shape) == ((4, 5), (4,))
    assert abs(model.intercept.sum()) < 1e-14
    assert np.abs(model.coef.sum(axis=0)).max() < 1e-8
    z = np.array([[0.0, 3.0, 1.0, 2.0], [5.0, 5.0, 0.0, 0.0]])
    assert model.predicted(z).tolist() == [3.0, 2.0]
    back = model_from_arrays(KIND, model.arrays())
    assert back.digest == model.digest
    assert back.loss == Softmax((2.0, 3.0, 4.0, 5.0))


def test_digests_of_models_stay():
    scaling = {"mean": np.array([0.5, 0.0]), "scale": np.array([2.0, 1.0])}
    two = LinearModel(KIND, np.array([1.0, -2.5]), 0.125, np.array([-1.0, 4.0]), **scaling)
    assert two.digest == "d9b3be8251f6df09886256108704f670f5a9291b70fa1b81bc5f48a93378d025"
    numbers = (np.arange(6.0), np.array([-1.0, 0.0, 1.0]), np.arange(3.0))
    three = LinearModel(KIND, numbers[0].reshape(3, 2), numbers[1], numbers[2], **scaling)
    plain = hashlib.sha256(KIND.encode())
    for part in (*numbers, two.mean, two.scale):
        plain.update(np.array([part.size], "<i8").tobytes() + part.astype("<f8").tobytes())
    assert three.digest == plain.hexdigest()


@pytest.mark.parametrize(
    ("kind", "classes", "sentence"),
    [
        ("linear_svc", [0, 1, 2], "linear svc takes two classes in this version, not 3"),
        (KIND, [0, 0.5, 1], "takes classes, and y has 3 values, not whole numbers"),
        (KIND, [1], "needs labels of two classes: all are 1"),
    ],
)
def test_classes_that_are_refused(kind, classes, sentence):
    with pytest.raises(DataError, match=sentence):
        make_loss(kind, classes)
