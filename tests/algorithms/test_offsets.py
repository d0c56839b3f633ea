"""Offsets: what is added to a row's raw prediction reaches every loss, solver, start and metric alike."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from algorithms.problems import PROBLEMS, SERIAL, Problem, as_csr, loss_of, rows_of
from scipy import sparse
from scipy.optimize import minimize

from hpcml.algorithms.choice import SOLVERS, make_solver
from hpcml.algorithms.kernels.choice import VARIABLE
from hpcml.algorithms.linear_model import ModelSettings, make_model, make_objective
from hpcml.algorithms.local_sgd import local_sgd
from hpcml.algorithms.losses.kinds import CLASSIFIERS
from hpcml.algorithms.metrics import evaluate
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import Names, survey
from hpcml.algorithms.target import look_at_target
from hpcml.collectives import run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError

KINDS = list(PROBLEMS)
LOG_LINK = [kind for kind in KINDS if loss_of(kind).has_log_link]
ALPHA = 0.02
ROWS = 9000  # five shards and more


@pytest.fixture(params=["auto", "numpy"])
def kernels(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)


def offsets(n, seed=5):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, n)


def dataset(problem, offset, comm=SERIAL):
    """An uneven split of the rows; of five ranks the second has none."""
    n = problem.X.shape[0]
    ends = [n * i**2 // comm.size**2 for i in range(comm.size + 1)]
    if comm.size == 5:
        ends[1] = ends[2]
    part = slice(ends[comm.rank], ends[comm.rank + 1])
    columns = (None if array is None else array[part] for array in (problem.y, problem.weight, offset))
    return ArrayDataset(problem.X[part], *columns, comm=comm)


def objective_of(data, kind, **settings):
    found = survey(data, classes=kind in CLASSIFIERS)
    chosen = ModelSettings(kind, **{"power": 1.4, "alpha": ALPHA, **settings})
    target = look_at_target(data, loss_of(kind, chosen.power))
    return chosen, found, *make_objective(data, chosen, found, target=target)


def fitted(data, kind, solver="newton", tol=1e-12, **settings):
    chosen, found, objective, asked = objective_of(data, kind, **settings)
    result = run_solver(objective, make_solver(solver), Rules(5000, tol))
    return make_model(objective, result.w, chosen, found.classes, asked), result, objective


def works(name, kind):
    if name == "gram":
        return kind == "linear_regression"
    return name not in ("admm", "async_admm", "sgd") or kind not in LOG_LINK


def optimum(problem, offset, kind, alpha=ALPHA):
    """Coefficients and intercept by SciPy, from the formula."""
    X = problem.X.toarray() if sparse.issparse(problem.X) else problem.X
    s = np.ones(len(X)) if problem.weight is None else problem.weight
    U, s = np.column_stack([X, np.ones(len(X))]), s / s.sum()
    strength = np.append(np.full(X.shape[1], alpha), 0.0)

    def value_and_gradient(w):
        value, r, _ = rows_of(kind, U @ w + offset, problem.y)
        return s @ value + 0.5 * strength @ w**2, U.T @ (s * r) + strength * w

    w = np.zeros(U.shape[1])
    for _ in range(3):
        w = minimize(value_and_gradient, w, jac=True, method="BFGS", options={"gtol": 1e-13}).x
    return w


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("kernels")
def test_every_solver_finds_the_optimum(name, kind, make):
    if not works(name, kind):
        return
    problem = make(PROBLEMS[kind](weighted=True))
    offset = offsets(150)
    model, result, _ = fitted(dataset(problem, offset), kind, name)
    assert result.converged, result.reason
    expected = optimum(problem, offset, kind)
    np.testing.assert_allclose([*model.coef, model.intercept], expected, atol=2e-6)
    assert np.abs(expected - optimum(problem, 0 * offset, kind)).max() > 1e-2


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("kind", "alpha"), [("poisson_regression", 0.6), ("logistic_regression", 0.05)])
def test_working_sets_of_columns(kind, alpha):
    """A Hessian of some columns is made from a copy of them, at the same raw predictions."""
    problem, offset = PROBLEMS[kind](d=12), offsets(150)
    models = [
        fitted(dataset(problem, offset), kind, name, l1_ratio=0.9, alpha=alpha)
        for name in ("prox_newton", "nesterov")
    ]
    for model, result, _ in models:
        assert result.converged
        assert 0 < np.count_nonzero(model.coef) < 12
    np.testing.assert_allclose(models[0][0].coef, models[1][0].coef, atol=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_least_squares_with_offsets_is_that_of_the_rest_of_y(name):
    problem, offset = PROBLEMS["linear_regression"](weighted=True), 10 * offsets(150)
    ours, *_ = fitted(dataset(problem, offset), "linear_regression", name)
    shifted, *_ = fitted(dataset(problem._replace(y=problem.y - offset), None), "linear_regression", name)
    np.testing.assert_allclose(ours.coef, shifted.coef, atol=1e-8)
    assert ours.intercept == pytest.approx(shifted.intercept, abs=1e-8)


@pytest.mark.usefixtures("kernels")
def test_a_start_by_local_sgd_with_offsets_is_that_of_the_rest_of_y():
    problem, offset = PROBLEMS["linear_regression"](weighted=True), 10 * offsets(150)
    rest = dataset(problem._replace(y=problem.y - offset), None)
    starts = [
        local_sgd(objective_of(data, "linear_regression")[2]) for data in (dataset(problem, offset), rest)
    ]
    np.testing.assert_allclose(*starts, atol=1e-10)


def test_poisson_with_an_exposure_is_that_of_weighted_rates():
    problem, log_e = PROBLEMS["poisson_regression"](weighted=True), offsets(150)
    e, s = np.exp(log_e), problem.weight
    counted, *_ = fitted(dataset(problem, log_e), "poisson_regression")
    alpha = ALPHA * s.sum() / (s * e).sum()  # on the mean over other weights
    rates, *_ = fitted(
        dataset(Problem(problem.X, problem.y / e, s * e), None), "poisson_regression", alpha=alpha
    )
    np.testing.assert_allclose(counted.coef, rates.coef, atol=1e-9)
    assert counted.intercept == pytest.approx(rates.intercept, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_offset_moves_the_intercept_alone(kind):
    problem = PROBLEMS[kind]()
    plain, first, _ = fitted(dataset(problem, None), kind)
    moved, second, _ = fitted(dataset(problem, np.full(150, 0.7)), kind)
    np.testing.assert_allclose(moved.coef, plain.coef, atol=1e-5)
    assert moved.intercept == pytest.approx(plain.intercept - 0.7, abs=1e-5)
    assert second.objective == pytest.approx(first.objective, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_of_zero_change_no_bit_of_the_answer(kind):
    problem = PROBLEMS[kind](weighted=True)
    plain, zeros = (fitted(dataset(problem, o), kind) for o in (None, np.zeros(150)))
    assert zeros[0].digest == plain[0].digest
    assert zeros[1].certificate == plain[1].certificate


@pytest.mark.parametrize("kind", LOG_LINK)
def test_a_fit_starts_at_the_best_constant_beside_the_offsets(kind):
    problem, offset = PROBLEMS[kind](weighted=True), offsets(150)
    *_, objective, _ = objective_of(dataset(problem, offset), kind)
    point = objective.evaluate(objective.first_w, columns=objective.all_columns)
    assert abs(point.gradient[-1]) < 1e-12 * np.abs(point.gradient).max()
    assert objective.start.curvature == pytest.approx(point.hessian[-1, -1], rel=1e-12)
    z = objective.start.intercept + offset
    value, *_ = rows_of(kind, z, problem.y)
    assert point.value == pytest.approx(np.average(value, weights=problem.weight), rel=1e-12)


@pytest.mark.parametrize("kind", LOG_LINK)
def test_without_an_intercept_the_curvature_is_that_at_the_offsets(kind):
    *_, objective, _ = objective_of(dataset(PROBLEMS[kind](), offsets(150)), kind, fit_intercept=False)
    z = offsets(150)
    assert objective.start.curvature == pytest.approx(rows_of(kind, z, PROBLEMS[kind]().y)[2].mean())


@pytest.mark.parametrize("kind", LOG_LINK)
def test_an_optimum_without_features_is_known_at_the_start(kind):
    problem = PROBLEMS[kind]()
    data = dataset(problem._replace(X=np.zeros((150, 1))), offsets(150))
    _, result, _ = fitted(data, kind, tol=1e-9)
    assert (result.converged, result.n_iter) == (True, 0)


@pytest.mark.parametrize("value", [800.0, -800.0])
def test_offsets_without_an_exponential_are_refused(value):
    def program(comm):
        with pytest.raises(DataError, match="so far from 0 that their exponentials are no numbers"):
            look_at_target(
                dataset(PROBLEMS["poisson_regression"](), np.full(150, value), comm),
                loss_of("poisson_regression"),
            )

    for size in (1, 3):
        run_threads(size, program, timeout=20)


@pytest.mark.parametrize("kind", ["poisson_regression", "logistic_regression", "linear_regression"])
@pytest.mark.parametrize("name", ["lbfgs", "newton_cg", "prox_newton"])
def test_the_same_bits_on_any_number_of_ranks(kind, name):
    problem, offset = PROBLEMS[kind](ROWS, weighted=True), offsets(ROWS)

    def program(comm):
        model, result, objective = fitted(dataset(problem, offset, comm), kind, name, tol=1e-8)
        metrics = {"poisson_regression": ("d2", "deviance")}.get(kind, ())
        scores = evaluate(objective.data, model, metrics).metrics
        return hashlib.sha256(result.w.tobytes()).hexdigest(), result.certificate.value, scores

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("kind", LOG_LINK)
def test_explained_deviance_is_beyond_the_offsets(kind):
    """Against SciPy's best constant; a constant y beside offsets has something to explain."""
    problem, offset = PROBLEMS[kind](), offsets(150)
    model, *_ = fitted(dataset(problem, offset), kind)
    scores = evaluate(dataset(problem, offset), model, ("d2", "deviance")).metrics
    loss = loss_of(kind)

    def deviance(z):
        return 2 * np.mean(loss.terms(z, problem.y).value - loss.least(problem.y))

    null = minimize(lambda b: deviance(b[0] + offset), [0.0], tol=1e-12).fun
    ours = deviance(problem.X @ model.coef + model.intercept + offset)
    assert scores["deviance"] == pytest.approx(ours, rel=1e-10)
    assert scores["d2"] == pytest.approx(1 - ours / null, rel=1e-8)
    equal = problem._replace(y=np.full(150, 3.0))
    assert evaluate(dataset(equal, offset), model, ("d2",)).metrics["d2"] < 0


def test_digests_know_offsets_from_weights():
    problem = PROBLEMS["poisson_regression"]()
    column = offsets(150) + 2
    plain = survey(dataset(problem, None), classes=False).digest
    weighted = survey(dataset(problem._replace(weight=column), None), classes=False).digest
    moved = survey(dataset(problem, column), classes=False).digest
    assert len({plain, weighted, moved}) == 3
    wide = Problem(np.zeros((ROWS, 2)), np.ones(ROWS))
    expected = survey(dataset(wide, offsets(ROWS)), classes=False).digest
    for size in (2, 5):
        program = lambda comm: survey(dataset(wide, offsets(ROWS), comm), classes=False).digest  # noqa: E731
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize(
    ("value", "names", "sentence"),
    [
        (np.nan, Names(offset="f.h5:o"), "f.h5:o: row 140 is nan"),
        (np.inf, Names(), "offset: row 140 is inf"),
        (-np.inf, Names(exposure="f.h5:e"), "f.h5:e: row 140 is 0; an exposure is finite and above 0"),
        (np.nan, Names(exposure="e"), "e: row 140 is below 0 or NaN; an exposure is finite and above 0"),
    ],
)
def test_an_offset_that_is_no_number(value, names, sentence):
    offset = offsets(150)
    offset[140] = value

    def program(comm):
        with pytest.raises(DataError) as caught:
            survey(dataset(PROBLEMS["poisson_regression"](), offset, comm), classes=False, names=names)
        return str(caught.value)

    for size in (1, 2, 5):
        assert run_threads(size, program, timeout=20) == [sentence] * size


def test_ranks_that_differ_in_having_offsets():
    X, y = np.zeros((4, 2)), np.ones(4)

    def program(comm):
        with pytest.raises(DataError, match=r"ranks differ in offset \(given or not\): True, False"):
            ArrayDataset(X, y, None, y if comm.rank == 0 else None, comm=comm)

    run_threads(2, program, timeout=20)
