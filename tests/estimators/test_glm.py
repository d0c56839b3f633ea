"""Generalised linear models against scikit-learn's, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as reference
from estimators.test_against_sklearn import assert_same, off, unscaled
from scipy import sparse
from sklearn.base import clone

from hpcml.collectives import run_threads
from hpcml.errors import DataError, SpecError
from hpcml.estimators import GammaRegressor, PoissonRegressor, TweedieRegressor

PAIRS = {
    "Poisson": (PoissonRegressor(), reference.PoissonRegressor(), "counts"),
    "gamma": (GammaRegressor(), reference.GammaRegressor(), "amounts"),
    "Tweedie 1.5": (TweedieRegressor(power=1.5), reference.TweedieRegressor(power=1.5), "counts"),
    "Tweedie 1": (TweedieRegressor(power=1), reference.TweedieRegressor(power=1), "counts"),
    "Tweedie 2": (TweedieRegressor(power=2), reference.TweedieRegressor(power=2), "amounts"),
    "Tweedie 0": (TweedieRegressor(power=0), reference.TweedieRegressor(power=0), "regression"),
}
each = pytest.mark.parametrize(("model", "twin", "kind"), PAIRS.values(), ids=PAIRS)


def tight(twin, **parameters):
    """scikit-learn's model as far as it goes."""
    return clone(twin).set_params(solver="newton-cholesky", tol=1e-14, max_iter=1000, **parameters)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e2])
@each
def test_coefficients(problem, model, twin, kind, alpha, weighted, fit_intercept):
    X, y, weight = problem(f"many {kind}")
    X, y, weight = X[:1500, :12], y[:1500], weight[:1500] if weighted else None
    expected = tight(twin, alpha=alpha, fit_intercept=fit_intercept).fit(X, y, weight)
    for rows in (X, sparse.csr_array(X)):
        found = clone(model).set_params(alpha=alpha, tol=1e-15, fit_intercept=fit_intercept)
        assert_same(found.fit(rows, y, weight), expected, 2e-7)
        assert found.score(rows, y, weight) == pytest.approx(expected.score(X, y, weight), abs=1e-8)
        assert off(found.predict(rows), expected.predict(X)) < 2e-7


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov", "gd"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@each
def test_every_solver(problem, model, twin, kind, make, alpha, solver):
    X, y, weight = problem(f"many {kind}")
    X, y, weight = X[:1500, :12], y[:1500], weight[:1500]
    expected = tight(twin, alpha=alpha).fit(X, y, weight)
    found = clone(model).set_params(alpha=alpha, tol=1e-11, solver=solver, max_iter=5000)
    assert_same(found.fit(make(X), y, weight), expected, 1e-4 if alpha else 1e-6)
    assert 0 <= found.certificate_ <= 1e-11


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each
def test_wide_scales_without_a_penalty(problem, model, twin, kind):
    X, y, weight = problem(f"ill {kind}")
    expected = unscaled(tight(twin, alpha=0.0), X, y, weight)
    scales = np.logspace(-8, 8, X.shape[1])
    found = clone(model).set_params(alpha=0.0, tol=1e-11).fit(X * scales, y, weight)
    assert found.converged_, found.reason_
    assert off(found.coef_ * scales, expected.coef_) < 1e-6


@each
def test_weights_are_repetitions(problem, model, twin, kind):
    X, y, weight = problem(f"many {kind}")
    X, y, weight = X[:500, :8], y[:500], weight[:500]
    repeats = weight.astype(int)
    weighted = clone(model).set_params(tol=1e-14).fit(X, y, weight)
    repeated = clone(model).set_params(tol=1e-14).fit(np.repeat(X, repeats, axis=0), np.repeat(y, repeats))
    assert off(weighted.coef_, repeated.coef_) < 1e-9
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-12)


def test_an_exposure_is_a_weight():
    """Counts over exposures, weighted by them: the model of counts whose logarithm has an offset."""
    rng = np.random.default_rng(0)
    X, exposure = rng.normal(size=(400, 3)), rng.uniform(0.1, 5, 400)
    counts = rng.poisson(exposure * np.exp(X @ [0.5, -0.2, 0.1]))
    model = PoissonRegressor(alpha=0.0, tol=1e-12).fit(X, counts / exposure, exposure)
    slope = exposure * model.predict(X) - counts
    assert np.abs(X.T @ slope).max() < 1e-7 and abs(slope.sum()) < 1e-7


@each
def test_the_certificate_does_not_follow_the_unit_of_y(problem, model, twin, kind):
    if kind == "regression":
        pytest.skip("least squares do not have a log link")
    X, y, _ = problem(f"many {kind}")
    certificates = [
        clone(model).set_params(alpha=0.0, solver="lbfgs", tol=1e-5).fit(X, y * unit).certificate_
        for unit in (1e-6, 1.0, 1e6)
    ]
    assert max(certificates) <= 1e-5
    assert max(certificates) == pytest.approx(min(certificates), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "bad", "sentence"),
    [
        (PoissonRegressor(), -2.0, "y: row 290 is -2, but the poisson loss takes labels at least 0"),
        (GammaRegressor(), 0.0, "y: row 290 is 0, but the gamma loss takes labels above 0"),
        (TweedieRegressor(power=1.5), -2.0, "takes labels at least 0"),
    ],
)
def test_a_bad_label_on_one_rank(model, bad, sentence):
    X, y = np.random.default_rng(0).normal(size=(300, 2)), np.ones(300)
    y[290] = bad

    def program(comm):
        rows = slice(300 * comm.rank // comm.size, 300 * (comm.rank + 1) // comm.size)
        for work in (lambda one: one.fit(X[rows], y[rows]), lambda one: fitted(one).score(X[rows], y[rows])):
            with pytest.raises(DataError) as caught:
                work(clone(model).set_params(comm=comm))
            assert sentence in str(caught.value)
        return True

    def fitted(one):
        one.coef_, one.intercept_, one.n_features_in_ = np.zeros(2), 0.0, 2
        return one

    for size in (1, 3):
        assert all(run_threads(size, program, timeout=20))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"power": -1.0}, "power"),
        ({"power": 0.5}, "no Tweedie distribution has the power 0.5"),
        ({"power": 3.0}, "not convex"),
        ({"power": 1.5, "link": "identity"}, "goes with log"),
        ({"power": 0.0, "link": "log"}, "goes with identity"),
        ({"power": 3.0, "uncertified": "allow", "solver": "newton"}, "needs a convex loss"),
    ],
)
def test_refused_by_name(parameters, sentence):
    with pytest.raises(SpecError, match=sentence):
        TweedieRegressor(**parameters).fit([[0.0], [1.0], [3.0]], [1.0, 2.0, 4.0])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_power_above_two_is_stationary_only(problem):
    X, y, weight = problem("many amounts")
    model = TweedieRegressor(power=3.0, alpha=0.1, tol=1e-9, uncertified="allow").fit(X, y, weight)
    expected = reference.TweedieRegressor(power=3.0, alpha=0.1, tol=1e-10, max_iter=5000).fit(X, y, weight)
    assert model.converged_
    assert off(model.coef_, expected.coef_) < 1e-4
