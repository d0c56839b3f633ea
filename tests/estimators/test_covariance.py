"""Covariances with scikit-learn's names, over the rows of all ranks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn import covariance
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import EmpiricalCovariance


@parametrize_with_checks([EmpiricalCovariance(), EmpiricalCovariance(assume_centered=True)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def rows(n=700, d=6):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3
    return X * (rng.random((n, d)) < 0.8), rng.integers(0, 4, n).astype(float)


def facts(model):
    arrays = (model.covariance_, model.location_, model.correlation_, model.get_precision())
    return b"".join(array.tobytes() for array in arrays), model.most_correlated_


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("centered", [False, True])
def test_as_scikit_learn(make, centered):
    X, weight = rows()
    ours = EmpiricalCovariance(assume_centered=centered).fit(make(X))
    twin = covariance.EmpiricalCovariance(assume_centered=centered).fit(X)
    for name in ("covariance_", "location_", "precision_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(twin, name), rtol=1e-9, atol=1e-12)
    assert ours.score(make(X[:99])) == pytest.approx(twin.score(X[:99]), rel=1e-9)
    np.testing.assert_allclose(ours.mahalanobis(X), twin.mahalanobis(X), rtol=1e-9)
    assert ours.error_norm(twin.covariance_) < 1e-20
    repeated = np.repeat(X, weight.astype(int), axis=0)
    ours.fit(make(X), sample_weight=weight)
    np.testing.assert_allclose(ours.covariance_, twin.fit(repeated).covariance_, rtol=1e-9, atol=1e-12)
    assert ours.score(make(X), sample_weight=weight) == pytest.approx(twin.score(repeated), rel=1e-9)


def test_correlations_and_the_most_correlated_pair():
    X, _ = rows()
    X = np.column_stack([X, -2 * X[:, 1] + 1e-3 * X[:, 0], np.full(700, 4.0)])
    model = EmpiricalCovariance().fit(X)
    np.testing.assert_allclose(model.correlation_[:7, :7], np.corrcoef(X[:, :7].T), rtol=1e-9, atol=1e-12)
    assert np.isnan(model.correlation_[7]).all()
    assert model.most_correlated_[:2] == (1, 6)
    assert model.most_correlated_.correlation == model.correlation_[1, 6] < -0.99
    assert EmpiricalCovariance().fit(X[:, 7:]).most_correlated_ is None


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    X, weight = rows(12_000 if make is np.asarray else 700)
    X = make(X)
    alone = EmpiricalCovariance().fit(X, sample_weight=weight)
    for size in (2, 3, 5):
        borders = np.sort(np.random.default_rng(size).integers(0, len(weight), size - 1))
        borders[-1:] = borders[:1]  # of three ranks or more one has no rows
        borders = [0, *np.sort(borders), len(weight)]

        def program(comm, borders=borders):
            mine = slice(borders[comm.rank], borders[comm.rank + 1])
            model = EmpiricalCovariance(comm=comm).fit(X[mine], sample_weight=weight[mine])
            data = ArrayDataset(X[mine], None, weight[mine], comm=comm)
            return facts(model), facts(EmpiricalCovariance().fit(data)), model.score(data)

        expected = (facts(alone), facts(alone), alone.score(X, sample_weight=weight))
        assert set(run_threads(size, program)) == {expected}


def test_float32_far_from_zero():
    X, _ = rows()
    far = (X + 1e4).astype(np.float32)
    expected = np.cov(far.astype(float).T, bias=True)
    np.testing.assert_allclose(EmpiricalCovariance().fit(far).covariance_, expected, rtol=1e-9)


def test_wrong_rows_and_parameters():
    X, weight = rows()
    X[300, 2] = np.inf
    data = ArrayDataset(X, comm=SerialCommunicator())
    with pytest.raises(DataError, match="row 300, column 2 is inf"):
        EmpiricalCovariance().fit(data)
    for wrong, sentence in ((-weight, "is negative"), (0 * weight, "all zero")):
        with pytest.raises(DataError, match=sentence):
            EmpiricalCovariance().fit(rows()[0], sample_weight=wrong)
    with pytest.raises(DataError, match="at most 4,096"):
        EmpiricalCovariance().fit(np.zeros((2, 5000)))
    with pytest.raises(SpecError, match="store_precision"):
        EmpiricalCovariance(store_precision="yes").fit(rows()[0])
    with pytest.raises(SpecError, match="its own sample_weight"):
        EmpiricalCovariance().fit(data, sample_weight=weight)
