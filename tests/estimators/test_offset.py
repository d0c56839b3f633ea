"""Offsets of the regressors: the exposure of counts, and what is known of y beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.base import clone

from hpcml.collectives import run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)

N = 600
RNG = np.random.default_rng(11)
X = RNG.normal(size=(N, 5))
EXPOSURE = RNG.uniform(0.2, 6.0, N)
OFFSET = np.log(EXPOSURE)
WEIGHT = RNG.integers(0, 3, N).astype(float)
COUNTS = RNG.poisson(EXPOSURE * np.exp(0.4 * X[:, 0] - 0.3 * X[:, 3] + 0.5)).astype(float)
AMOUNTS = RNG.gamma(2.0, EXPOSURE * np.exp(0.4 * X[:, 1]))
PLACED = X @ RNG.normal(size=5) + 5 * OFFSET + RNG.normal(size=N)


def test_counts_over_an_exposure_as_scikit_learn_fits_rates():
    weight = WEIGHT * EXPOSURE
    alpha = 0.1 * WEIGHT.sum() / weight.sum()  # of the same sum
    twin = reference.PoissonRegressor(alpha=alpha, solver="newton-cholesky", tol=1e-14)
    twin.fit(X, COUNTS / EXPOSURE, weight)
    model = PoissonRegressor(alpha=0.1, tol=1e-14).fit(X, COUNTS, WEIGHT, offset=OFFSET)
    np.testing.assert_allclose([*model.coef_, model.intercept_], [*twin.coef_, twin.intercept_], atol=1e-7)
    np.testing.assert_allclose(model.predict(X), twin.predict(X), rtol=1e-6)
    np.testing.assert_allclose(model.predict(X, OFFSET), EXPOSURE * twin.predict(X), rtol=1e-6)


def test_amounts_over_an_exposure_as_scikit_learn_fits_rates():
    """A gamma deviance does not know the unit of y."""
    twin = reference.GammaRegressor(alpha=0.1, solver="newton-cholesky", tol=1e-14)
    twin.fit(X, AMOUNTS / EXPOSURE, WEIGHT)
    for model in (GammaRegressor(alpha=0.1, tol=1e-14), TweedieRegressor(power=2, alpha=0.1, tol=1e-14)):
        model.fit(X, AMOUNTS, WEIGHT, offset=OFFSET)
        np.testing.assert_allclose(model.coef_, twin.coef_, atol=1e-7)
        expected = twin.score(X, AMOUNTS / EXPOSURE, WEIGHT)  # beside the offsets, its constant is the same
        assert model.score(X, AMOUNTS, WEIGHT, OFFSET) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    "model",
    [LinearRegression(), Ridge(2.0), Lasso(0.05), ElasticNet(0.05), TweedieRegressor(power=0, alpha=0.1)],
    ids=lambda model: type(model).__name__,
)
def test_least_squares_fit_what_the_offsets_leave(model):
    ours = clone(model).set_params(tol=1e-13).fit(X, PLACED, WEIGHT, offset=5 * OFFSET)
    rest = clone(model).set_params(tol=1e-13).fit(X, PLACED - 5 * OFFSET, WEIGHT)
    np.testing.assert_allclose(ours.coef_, rest.coef_, atol=1e-6)
    assert ours.intercept_ == pytest.approx(rest.intercept_, abs=1e-6)
    np.testing.assert_allclose(ours.predict(X, 5 * OFFSET), rest.predict(X) + 5 * OFFSET, atol=1e-5)
    error = np.average((PLACED - ours.predict(X, 5 * OFFSET)) ** 2, weights=WEIGHT)
    known = 5 * OFFSET if isinstance(model, TweedieRegressor) else 0
    centre = np.average(PLACED - known, weights=WEIGHT)
    spread = np.average((PLACED - known - centre) ** 2, weights=WEIGHT)
    assert ours.score(X, PLACED, WEIGHT, 5 * OFFSET) == pytest.approx(1 - error / spread, abs=1e-9)


def test_without_offsets_nothing_changes():
    plain, zeros = PoissonRegressor(alpha=0.1), PoissonRegressor(alpha=0.1)
    plain.fit(X, COUNTS)
    zeros.fit(X, COUNTS, offset=np.zeros(N))
    assert plain.coef_.tobytes() == zeros.coef_.tobytes()
    assert plain.predict(X).tobytes() == zeros.predict(X, np.zeros(N)).tobytes()


@pytest.mark.parametrize("model", [PoissonRegressor(), GammaRegressor(), TweedieRegressor(power=1.5)])
def test_the_same_bits_on_any_number_of_ranks(model):
    """Of five ranks the second has no rows; arrays and a data set give the same."""

    def program(comm):
        ends = [N * i // comm.size for i in range(comm.size + 1)]
        if comm.size == 5:
            ends[1] = ends[2]
        mine = slice(ends[comm.rank], ends[comm.rank + 1])
        part = [array[mine] for array in (X, AMOUNTS, WEIGHT, OFFSET)]
        fitted = clone(model).set_params(comm=comm).fit(*part)
        data = ArrayDataset(*part, comm=comm)
        again = clone(model).fit(data)
        assert again.coef_.tobytes() == fitted.coef_.tobytes()
        assert again.score(data) == fitted.score(*part)
        if comm.size == 1:  # else the rows of the one shard have moved to the first rank
            np.testing.assert_allclose(again.predict(data), fitted.predict(part[0], part[3]), rtol=1e-12)
        return fitted.coef_.tobytes(), fitted.intercept_, fitted.score(*part)

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize(
    ("offset", "sentence"),
    [
        (np.zeros(N - 1), r"X has 600 rows and offset has shape \(599,\)"),
        (np.zeros((N, 2)), r"X has 600 rows and offset has shape \(600, 2\)"),
        (np.where(np.arange(N) == 7, np.nan, 0.0), "offset contains NaN"),
        (["a"] * N, "could not convert string to float"),
    ],
    ids=["short", "two columns", "NaN", "texts"],
)
def test_what_is_no_offset(offset, sentence):
    with pytest.raises(DataError, match=sentence):
        PoissonRegressor().fit(X, COUNTS, offset=offset)
    model = PoissonRegressor().fit(X, COUNTS)
    with pytest.raises(ValueError, match=sentence):
        model.predict(X, offset)
    with pytest.raises(DataError, match=sentence):
        model.score(X, COUNTS, offset=offset)


def test_a_data_set_brings_its_offsets():
    data = ArrayDataset(X, COUNTS, None, OFFSET, comm=run_threads(1, lambda comm: comm)[0])
    model = PoissonRegressor().fit(data)
    for call in (model.fit, model.score, model.predict):
        with pytest.raises(SpecError, match="the data set brings its own offset: do not pass another"):
            call(data, offset=OFFSET)


def test_ranks_of_which_one_has_offsets():
    def program(comm):
        part = slice(comm.rank, None, comm.size)
        with pytest.raises(DataError, match=r"ranks differ in offset \(given or not\)"):
            PoissonRegressor(comm=comm).fit(X[part], COUNTS[part], offset=OFFSET[part] if comm.rank else None)

    run_threads(3, program, timeout=20)
