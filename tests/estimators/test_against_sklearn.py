"""Coefficients against scikit-learn's at tight tolerance, and each solver by its certificate."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as reference
from scipy import sparse

from hpcml.estimators import LinearRegression, LogisticRegression, Ridge

CLASSIFICATION = ["breast cancer", "digits from 5", "digit 8", "ill"]
REGRESSION = ["diabetes", "digit as a number", "ill regression"]


def off(found, expected):
    """Largest difference, relative where the number is above one."""
    return np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected)))


def assert_same(model, twin, bound=1e-6):
    assert model.converged_, model.reason_
    assert model.coef_.shape == twin.coef_.shape
    assert np.shape(model.intercept_) == np.shape(twin.intercept_)
    assert off(model.coef_, twin.coef_) < bound
    assert off(model.intercept_, twin.intercept_) < bound


def tight(**parameters):
    """scikit-learn's classifier as far as it goes."""
    return reference.LogisticRegression(tol=1e-13, solver="newton-cholesky", max_iter=1000, **parameters)


def unscaled(kind, X, y, weight=None):
    """Fit without a penalty on columns of deviation one, and turn the coefficients back.

    On columns of such different scales scikit-learn gives up rank (8 of 12) or the Hessian.
    """
    scale = X.std(axis=0)
    scale[scale == 0] = 1.0
    twin = kind.fit(X / scale, y, weight)
    twin.coef_ = twin.coef_ / scale
    return twin


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("C", [1e-3, 1e-1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_logistic_coefficients(problem, name, C, weighted, fit_intercept):
    X, y, weight = problem(name)
    weight = weight if weighted else None
    twin = tight(C=C, fit_intercept=fit_intercept).fit(X, y, weight)
    for rows in (X, sparse.csr_array(X)):
        model = LogisticRegression(C=C, tol=1e-16, fit_intercept=fit_intercept).fit(rows, y, weight)
        assert_same(model, twin)
    assert np.array_equal(model.classes_, twin.classes_)
    assert model.score(X, y, weight) == pytest.approx(twin.score(X, y, weight), rel=1e-14)


def test_logistic_without_penalty(problem):
    X, y, _ = problem("ill")
    twin = unscaled(tight(C=np.inf), X, y)
    assert_same(LogisticRegression(C=np.inf, tol=1e-12).fit(X, y), twin)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", REGRESSION)
def test_ridge_coefficients(problem, name, alpha, weighted, fit_intercept):
    X, y, weight = problem(name)
    weight = weight if weighted else None
    twin = reference.Ridge(alpha, solver="svd", fit_intercept=fit_intercept).fit(X, y, weight)
    for rows in (X, sparse.csr_array(X)):
        model = Ridge(alpha, tol=1e-13, fit_intercept=fit_intercept).fit(rows, y, weight)
        assert_same(model, twin)
    assert model.score(X, y, weight) == pytest.approx(twin.score(X, y, weight), abs=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["diabetes", "digit as a number", "ill regression"])
def test_least_squares_coefficients(problem, name, weighted, fit_intercept):
    X, y, weight = problem(name)
    weight = weight if weighted else None
    twin = reference.LinearRegression(fit_intercept=fit_intercept)
    twin = unscaled(twin, X, y, weight) if name.startswith("ill") else twin.fit(X, y, weight)
    for rows in (X, sparse.csr_array(X)):
        for kind in (LinearRegression(), Ridge(0.0)):
            assert_same(kind.set_params(tol=1e-10, fit_intercept=fit_intercept).fit(rows, y, weight), twin)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scales", [1.0, np.logspace(-1, 1, 6)])
def test_collinear_columns_have_the_shortest_coefficients(fit_intercept, scales):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 6)) * scales
    X = np.column_stack([X, X[:, 0], X[:, 1] + X[:, 2], np.ones(50)])
    y = X @ rng.normal(size=9) + rng.normal(size=50)
    twin = reference.LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    assert_same(LinearRegression(tol=1e-10, fit_intercept=fit_intercept).fit(X, y), twin)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_more_columns_than_rows_have_the_shortest_coefficients(weighted, fit_intercept):
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(20, 35)) * np.logspace(-1, 1, 35), rng.normal(size=20)
    weight = rng.uniform(0.5, 2.0, 20) if weighted else None
    twin = reference.LinearRegression(fit_intercept=fit_intercept).fit(X, y, weight)
    assert_same(LinearRegression(tol=1e-10, fit_intercept=fit_intercept).fit(X, y, weight), twin)


@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "nesterov", "gd"])
@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (LogisticRegression(), "breast cancer"),
        (LogisticRegression(0.1, fit_intercept=False), "digit 8"),
        (Ridge(), "diabetes"),
        (LinearRegression(), "diabetes"),
    ],
    ids=["breast cancer", "digit 8", "ridge", "least squares"],
)
def test_every_solver_is_certified(problem, estimator, name, solver):
    tol = 1e-10
    X, y, weight = problem(name)
    model = estimator.set_params(solver=solver, tol=tol, max_iter=20000).fit(X, y, weight)
    assert model.converged_, model.reason_
    assert 0 <= model.certificate_ <= tol
    assert type(model.converged_) is bool and type(model.certificate_) is float


def objective(model, X, y, weight):
    """Return scikit-learn's C times the sum of losses plus the penalty, or its sum of squares."""
    z = X @ model.coef_.ravel() + model.intercept_
    size = float(model.coef_.ravel() @ model.coef_.ravel())
    if isinstance(model, LogisticRegression):
        loss = weight @ np.logaddexp(0.0, np.where(y == model.classes_[1], -z, z))
        return (model.C * loss + size / 2) / (model.C * weight.sum())
    alpha = getattr(model, "alpha", 0.0)
    return (weight @ np.square(y - z) + alpha * size) / (2 * weight.sum())


@pytest.mark.parametrize(
    ("estimator", "name"),
    [(LogisticRegression(0.1), "ill"), (Ridge(3.0), "diabetes"), (LinearRegression(), "diabetes")],
)
def test_the_objective_is_as_documented(problem, estimator, name):
    X, y, weight = problem(name)
    model = estimator.fit(X, y, weight)
    assert model.objective_ == pytest.approx(objective(model, X, y, weight), rel=1e-10)


def test_a_fit_that_is_cut_says_so(problem):
    X, y, _ = problem("ill")
    with pytest.warns(match="did not converge in 3 iterations: max_iter was reached"):
        model = LogisticRegression(solver="gd", max_iter=3, tol=1e-12).fit(X, y)
    assert not model.converged_
    assert model.n_iter_.tolist() == [3]
    assert model.certificate_ > 1e-12
    assert model.reason_ == "max_iter was reached"
