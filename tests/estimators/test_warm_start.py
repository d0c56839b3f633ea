"""A fit that starts where the last one ended."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from hpcml.collectives import run_threads
from hpcml.errors import DataError, SpecError
from hpcml.estimators import (
    GammaRegressor,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)

ALL = {
    "logistic": (LogisticRegression(), "many"),
    "svc": (LinearSVC(), "many"),
    "least squares": (LinearRegression(), "many regression"),
    "ridge": (Ridge(), "many regression"),
    "Poisson": (PoissonRegressor(), "many counts"),
    "gamma": (GammaRegressor(), "many amounts"),
    "Tweedie": (TweedieRegressor(power=1.5), "many counts"),
}
each = pytest.mark.parametrize(("estimator", "name"), ALL.values(), ids=ALL)


@pytest.mark.parametrize("fit_intercept", [True, False])
@each
def test_it_ends_where_it_was(problem, estimator, name, fit_intercept):
    X, y, weight = problem(name)
    model = clone(estimator).set_params(warm_start=True, solver="lbfgs", fit_intercept=fit_intercept)
    cold = int(np.max(model.fit(X, y, weight).n_iter_))
    coef = model.coef_.copy()
    model.fit(X, y, weight)
    assert cold >= 2
    assert np.max(model.n_iter_) <= 1
    assert np.allclose(model.coef_, coef, rtol=1e-2, atol=1e-4)
    model.set_params(warm_start=False).fit(X, y, weight)
    assert np.max(model.n_iter_) == cold


def test_the_coefficients_must_fit(problem):
    X, y, _ = problem("many counts")
    model = PoissonRegressor(warm_start=True).fit(X, y)
    with pytest.raises(DataError, match="X has 3 features, and the last fit had 40"):
        model.fit(X[:, :3], y)


def test_ranks_must_start_together(problem):
    X, y, _ = problem("many counts")

    def program(comm):
        rows = slice(4500 * comm.rank, 4500 * (comm.rank + 1))
        model = PoissonRegressor(warm_start=True, comm=comm).fit(X[rows], y[rows])
        bits = model.fit(X[rows], y[rows]).coef_.tobytes()
        if comm.rank == 0:
            del model.coef_
        with pytest.raises(SpecError, match="ranks differ in coefficients to start from"):
            model.fit(X[rows], y[rows])
        return bits

    first, second = run_threads(2, program, timeout=30)
    assert first == second
