"""What must not change a model: rows twice or weight 2, the order of columns, rows of weight zero."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset
from hpcml.errors import DataError
from hpcml.estimators import LinearRegression, LogisticRegression, Ridge

CASES = [
    (LogisticRegression(tol=1e-13), "ill"),
    (LogisticRegression(tol=1e-13), "digits from 5"),
    (Ridge(tol=1e-13), "diabetes"),
    (LinearRegression(tol=1e-10), "diabetes"),
]
each = pytest.mark.parametrize(("estimator", "name"), CASES)
both = pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])


def assert_close(one, other):
    assert np.allclose(one.coef_, other.coef_, rtol=1e-6, atol=1e-8)
    assert np.allclose(one.intercept_, other.intercept_, rtol=1e-6, atol=1e-8)
    assert one.objective_ == pytest.approx(other.objective_, rel=1e-10)


@both
@each
def test_weight_two_is_the_row_twice(problem, estimator, name, make):
    X, y, weight = problem(name)
    times = weight.astype(int)
    weighted = clone(estimator).fit(make(X), y, weight)
    repeated = clone(estimator).fit(make(X.repeat(times, axis=0)), y.repeat(times))
    assert_close(weighted, repeated)


@both
@each
def test_weight_zero_is_no_row(problem, estimator, name, make):
    X, y, weight = problem(name)
    there = weight > 0
    absent = clone(estimator).fit(make(X[there]), y[there], weight[there])
    assert_close(clone(estimator).fit(make(X), y, weight), absent)


@each
def test_all_rows_twice_is_half_the_penalty(problem, estimator, name):
    X, y, _ = problem(name)
    twice = clone(estimator).fit(np.vstack([X, X]), np.concatenate([y, y]))
    weighted = clone(estimator).fit(X, y, np.full(y.size, 2.0))
    assert_close(twice, weighted)
    if hasattr(estimator, "C"):
        assert_close(twice, clone(estimator).set_params(C=2 * estimator.C).fit(X, y))
    elif hasattr(estimator, "alpha"):
        assert_close(twice, clone(estimator).set_params(alpha=estimator.alpha / 2).fit(X, y))


@each
def test_columns_may_be_permuted(problem, estimator, name):
    X, y, _ = problem(name)
    order = np.random.default_rng(5).permutation(X.shape[1])
    permuted = clone(estimator).fit(X[:, order], y)
    model = clone(estimator).fit(X, y)
    assert np.allclose(permuted.coef_, model.coef_[..., order], rtol=1e-6, atol=1e-8)


def test_a_class_of_weight_zero_is_no_class(problem):
    X, y, _ = problem("breast cancer")
    labels = np.where(np.arange(y.size) % 7 == 0, 2, y)
    weight = (labels != 2).astype(float)
    model = LogisticRegression(tol=1e-13).fit(X, labels, weight)
    assert model.classes_.tolist() == [0, 1]
    assert_close(model, LogisticRegression(tol=1e-13).fit(X[weight > 0], y[weight > 0]))
    data = ArrayDataset(X, labels, weight, comm=SerialCommunicator())
    assert LogisticRegression(tol=1e-13).fit(data).coef_.tobytes() == model.coef_.tobytes()


def test_one_class_that_weighs_is_refused(problem):
    X, y, _ = problem("breast cancer")
    with pytest.raises(DataError, match="only one class: 1"):
        LogisticRegression().fit(X, y, y.astype(float))
    with pytest.raises(DataError, match=r"only one class: 1\.0"):
        LogisticRegression().fit(ArrayDataset(X, y, y.astype(float), comm=SerialCommunicator()))
