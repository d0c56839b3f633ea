"""Random projections with scikit-learn's names, over the rows of all ranks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import random_projection
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import GaussianRandomProjection, SparseRandomProjection

# Below the features of scikit-learn's own checks.
ALL = [GaussianRandomProjection(2), SparseRandomProjection(2), SparseRandomProjection(2, dense_output=True)]
each = pytest.mark.parametrize("estimator", ALL, ids=["gaussian", "sparse", "dense output"])


@parametrize_with_checks([*ALL, GaussianRandomProjection(2, compute_inverse_components=True)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def rows(n=300, d=80):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.4)


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


@each
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_as_scikit_learn_with_the_same_matrix(estimator, make):
    X = make(rows())
    model = clone(estimator).set_params(n_components=20, compute_inverse_components=True).fit(X)
    kind = getattr(random_projection, type(estimator).__name__)
    twin = kind(**{name: value for name, value in model.get_params().items() if name != "comm"}).fit(X)
    twin.components_ = model.components_
    found, expected = model.transform(X), twin.transform(X)
    assert sparse.issparse(found) == sparse.issparse(expected)
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-12, atol=1e-12)
    twin.inverse_components_ = model.inverse_components_
    back = model.inverse_transform(found)
    np.testing.assert_allclose(back, twin.inverse_transform(expected), rtol=1e-10, atol=1e-10)
    lazy = clone(estimator).set_params(n_components=20).fit(X)
    np.testing.assert_allclose(lazy.inverse_transform(found), back, rtol=1e-10, atol=1e-10)
    assert model.get_feature_names_out().tolist() == twin.get_feature_names_out().tolist()
    if isinstance(estimator, SparseRandomProjection):
        assert model.density_ == twin.density_


@each
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(estimator, make):
    X = make(rows(d=200))
    settings = {"n_components": "auto", "eps": 0.99, "random_state": 4}
    expected = dense(clone(estimator).set_params(**settings).fit_transform(X))
    for size in (2, 3, 5):
        borders = np.sort(np.random.default_rng(size).integers(0, 300, size - 1))
        borders = [0, *(borders[:1].tolist() * 2 + borders[2:].tolist())[: size - 1], 300]

        def program(comm, borders=borders):
            mine = X[borders[comm.rank] : borders[comm.rank + 1]]
            model = clone(estimator).set_params(comm=comm, **settings).fit(mine)
            data = ArrayDataset(mine, comm=comm)
            of_set = clone(estimator).set_params(**settings).fit(data).transform(data)
            return dense(model.transform(mine)), dense(of_set)

        for kind in zip(*run_threads(size, program), strict=True):
            assert np.array_equal(np.concatenate(kind), expected)


@each
def test_nothing_is_stored(estimator):
    model = clone(estimator).set_params(n_components=1000).fit(rows())
    assert len(pickle.dumps(model)) < 1000
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(dense(again.components_), dense(model.components_))
    assert not np.array_equal(
        dense(model.components_), dense(clone(model).set_params(random_state=1).fit(rows()).components_)
    )


def test_names_of_a_table():
    table = pd.DataFrame(rows(), columns=[f"c{j}" for j in range(80)])
    model = GaussianRandomProjection(3).fit(table)
    assert model.feature_names_in_[0] == "c0"
    with pytest.raises(ValueError, match="feature names"):
        model.transform(table[table.columns[::-1]])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "more than the 80 features; take a larger eps"),
        ({"eps": 1.0}, "eps must be above 0 and below 1"),
        ({"n_components": 0}, "n_components"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_wrong_parameters(settings, sentence):
    with pytest.raises(SpecError, match=sentence):
        GaussianRandomProjection(**settings).fit(rows())
    with pytest.raises(SpecError, match="density"):
        SparseRandomProjection(density=0.0).fit(rows())


def test_wrong_rows():
    X = rows()
    X[7, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        GaussianRandomProjection(3).fit(X)
    model = GaussianRandomProjection(3).fit(rows())
    with pytest.raises(DataError, match="has 5 features"):
        model.transform(ArrayDataset(rows(9, 5), comm=SerialCommunicator()))

    def program(comm):
        with pytest.raises(SpecError, match="ranks differ in columns: 10, 80"):
            GaussianRandomProjection(3, comm=comm).fit(rows(5, 80 if comm.rank else 10))
        with pytest.raises(DataError, match="there are no rows"):
            GaussianRandomProjection(3, comm=comm).fit(rows(0))

    run_threads(2, program)
