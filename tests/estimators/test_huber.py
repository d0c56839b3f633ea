"""HuberRegressor against scikit-learn's function and its minimum by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import in_memory
from scipy import sparse
from scipy.optimize import minimize
from sklearn.linear_model import HuberRegressor as Twin
from sklearn.linear_model import Ridge

from hpcml.collectives import run_threads
from hpcml.errors import SpecError
from hpcml.estimators import HuberRegressor


def rows(n=300, d=5, share=0.15, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.logspace(-1, 1, d)
    y = X @ rng.normal(size=d) + rng.normal(size=n) + 7
    far = rng.random(n) < share
    y[far] += rng.exponential(30, far.sum())
    return X, y, rng.integers(0, 4, n).astype(float)


def function(X, y, s, epsilon, alpha, w, b, sigma):
    """What scikit-learn minimises, row by row."""
    z = np.abs(y - X @ w - b) / sigma
    return float(
        s @ (sigma + sigma * np.where(z < epsilon, z**2, 2 * epsilon * z - epsilon**2)) + alpha * w @ w
    )


def optimum(X, y, s, epsilon, alpha, guess):
    """Minimise it jointly by SciPy, over log sigma, without gradients of ours."""
    d = X.shape[1]

    def value_and_gradient(p):
        w, b, sigma = p[:d], p[d], np.exp(p[d + 1])
        r = y - X @ w - b
        slope = 2 * np.clip(r / sigma, -epsilon, epsilon)
        g_sigma = s @ (1 - np.minimum((r / sigma) ** 2, epsilon**2))
        g = np.concatenate([-X.T @ (s * slope) + 2 * alpha * w, [-s @ slope, g_sigma * sigma]])
        return function(X, y, s, epsilon, alpha, w, b, sigma) / s.sum(), g / s.sum()

    p = guess
    for _ in range(5):
        p = minimize(value_and_gradient, p, jac=True, method="BFGS", options={"gtol": 1e-12}).x
    return p[:d], p[d], np.exp(p[d + 1])


@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "gd", "nesterov", "prox_newton"])
@pytest.mark.parametrize(("epsilon", "alpha"), [(1.35, 1e-4), (1.1, 5.0), (3.0, 0.0)])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_joint_optimum(solver, epsilon, alpha, weighted):
    X, y, s = rows()
    weight = s if weighted else None
    s = s if weighted else np.ones(len(y))
    model = HuberRegressor(epsilon=epsilon, alpha=alpha, solver=solver, tol=1e-10, max_iter=5000).fit(
        X, y, weight
    )
    assert model.converged_, model.reason_
    w, b, sigma = optimum(X, y, s, epsilon, alpha, np.append(np.zeros(5), [y.mean(), np.log(y.std())]))
    np.testing.assert_allclose((model.coef_ - w) * X.std(axis=0), 0.0, atol=4e-5)
    assert (model.intercept_, model.scale_) == pytest.approx((b, sigma), rel=2e-5)
    least = function(X, y, s, epsilon, alpha, w, b, sigma)
    found = function(X, y, s, epsilon, alpha, model.coef_, model.intercept_, model.scale_)
    assert found <= least * (1 + 1e-10)
    assert model.objective_ == pytest.approx(found / (2 * s.sum()), rel=1e-12)
    np.testing.assert_array_equal(
        model.outliers_, np.abs(y - X @ model.coef_ - model.intercept_) > epsilon * model.scale_
    )


@pytest.mark.parametrize("intercept", [True, False])
def test_against_scikit_learn(intercept):
    X, y, s = rows(share=0.05)
    y = y if intercept else y - 7
    settings = {"alpha": 0.1, "fit_intercept": intercept}
    twin = Twin(tol=1e-9, max_iter=10_000, **settings).fit(X, y, s)
    model = HuberRegressor(tol=1e-10, **settings).fit(X, y, s)
    np.testing.assert_allclose((model.coef_ - twin.coef_) * X.std(axis=0), 0.0, atol=1e-4)
    ours, theirs = (function(X, y, s, 1.35, 0.1, m.coef_, m.intercept_, m.scale_) for m in (model, twin))
    assert ours <= theirs * (1 + 1e-12)
    assert model.scale_ == pytest.approx(twin.scale_, rel=1e-3)  # theirs is what is rough
    assert (model.outliers_ == twin.outliers_).mean() > 0.99
    copy = model.to_sklearn()
    assert (copy.scale_, copy.score(X, y)) == (model.scale_, pytest.approx(model.score(X, y)))


def test_the_certificate_bounds_the_function():
    """At a rough answer the function is at most the gap above its least value."""
    X, y, s = rows(share=0.3)
    best = HuberRegressor(alpha=3.0, tol=1e-12, solver="newton").fit(X, y, s)
    for max_iter in (1, 2, 3, 5):
        with pytest.warns(match="did not converge"):
            rough = HuberRegressor(alpha=3.0, tol=1e-14, solver="gd", max_iter=max_iter).fit(X, y, s)
        start = function(
            X, y, s, 1.35, 0, np.zeros(5), np.average(y, weights=s), 1.0
        )  # of any scale: above F
        excess = rough.objective_ - best.objective_
        assert 0 <= excess <= rough.certificate_ * start


def test_large_epsilon_is_ridge():
    """Without outliers sigma is the root mean square, and the weights those of least squares."""
    X, y, _ = rows(share=0.0)
    model = HuberRegressor(epsilon=50.0, alpha=0.0, tol=1e-10).fit(X, y)
    twin = Ridge(alpha=0.0).fit(X, y)
    np.testing.assert_allclose(model.coef_, twin.coef_, atol=1e-6)
    assert model.scale_ == pytest.approx(np.sqrt(np.mean((y - twin.predict(X)) ** 2)), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_a_unit_and_a_shift_of_y(unit, shift):
    X, y, _ = rows()
    plain = HuberRegressor(alpha=0.0, tol=1e-9).fit(X, y)
    model = HuberRegressor(alpha=0.0, tol=1e-9).fit(X, unit * (y + shift))
    assert model.converged_
    np.testing.assert_allclose(model.coef_ / unit, plain.coef_, atol=1e-5)
    assert model.scale_ / unit == pytest.approx(plain.scale_, rel=1e-5)


def test_residuals_that_vanish():
    """A perfect fit has no scale: it ends at the least one, certified."""
    X, _, _ = rows()
    model = HuberRegressor(alpha=0.0).fit(X, X @ np.arange(5.0) + 2)
    np.testing.assert_allclose(model.coef_, np.arange(5.0), atol=1e-6)
    assert 0 < model.scale_ < 1e-6
    for constant in (0.0, 5.0, -1e9):
        model = HuberRegressor().fit(X, np.full(len(X), constant))
        assert model.converged_, model.reason_
        assert model.intercept_ == pytest.approx(constant)
        np.testing.assert_allclose(model.coef_, 0.0, atol=1e-6 * max(1.0, abs(constant)))


def test_more_than_half_of_the_rows_fit():
    """Rows that are met exactly outweigh the rest: sigma falls to its least value."""
    X = np.linspace(-1, 1, 40)[:, None]
    y = 3 * X[:, 0] + 1
    y[:4] += 50
    model = HuberRegressor(alpha=0.0, max_iter=500).fit(X, y)
    assert model.coef_[0] == pytest.approx(3, abs=1e-4)
    assert model.outliers_.sum() >= 4


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    X, y, s = rows()

    def program(comm):
        part = slice(len(y) * comm.rank // comm.size, len(y) * (comm.rank + 1) // comm.size)
        model = HuberRegressor(alpha=0.1, tol=1e-9, comm=comm).fit(make(X)[part], y[part], s[part])
        bits = np.append(model.coef_, [model.intercept_, model.scale_, model.objective_]).tobytes()
        return bits, model.n_iter_, model.outliers_

    whole = run_threads(1, program)[0]
    for size in (2, 3, 5):
        found = run_threads(size, program)
        assert {one[:2] for one in found} == {whole[:2]}
        np.testing.assert_array_equal(np.concatenate([one[2] for one in found]), whole[2])


def test_a_data_set():
    X, y, s = rows()
    expected = HuberRegressor(alpha=0.1).fit(X, y, s)

    def program(comm):
        from algorithms.problems import Problem

        return HuberRegressor(alpha=0.1).fit(in_memory(Problem(X, y, s), comm))

    models = run_threads(2, program)
    assert [model.scale_ for model in models] == [expected.scale_] * 2
    np.testing.assert_array_equal(np.concatenate([model.outliers_ for model in models]), expected.outliers_)


@pytest.mark.parametrize("solver", ["newton_cg", "admm"])
def test_a_solver_that_cannot_is_refused(solver):
    X, y, _ = rows(50)
    with pytest.raises(SpecError, match=f"solver {solver}"):
        HuberRegressor(solver=solver).fit(X, y)


def test_warm_start():
    X, y, _ = rows()
    model = HuberRegressor(warm_start=True, alpha=1.0, tol=1e-9).fit(X, y)
    first = model.n_iter_
    assert model.fit(X, y).n_iter_ <= 1 < first
