"""Logistic regression of several classes against scikit-learn's, and on ranks."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as reference
from estimators.test_against_sklearn import off
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine

from hpcml.algorithms.linear_model import LinearModel
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError
from hpcml.estimators import LogisticRegression, estimator_from_model


def iris():
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    return X + rng.normal(scale=0.5, size=X.shape), y, rng.integers(0, 4, len(y)).astype(float)


def wine():
    X, y = load_wine(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y, None


def tight(**parameters):
    return reference.LogisticRegression(solver="newton-cg", tol=1e-12, max_iter=10**5, **parameters)


def assert_same(model, twin, bound=1e-6):
    assert model.converged_, model.reason_
    assert model.coef_.shape == twin.coef_.shape
    assert model.intercept_.shape == twin.intercept_.shape
    assert off(model.coef_, twin.coef_) < bound
    assert off(model.intercept_, twin.intercept_) < bound


@pytest.mark.parametrize("rows", [iris, wine])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 2: 0.5}], ids=str)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_coefficients(rows, C, class_weight, fit_intercept):
    X, y, weight = rows()
    parameters = {"C": C, "class_weight": class_weight, "fit_intercept": fit_intercept}
    twin = tight(**parameters).fit(X, y, weight)
    for form in (X, sparse.csr_array(X)):
        model = LogisticRegression(tol=1e-15, **parameters).fit(form, y, weight)
        assert_same(model, twin)
    assert np.allclose(model.predict_proba(X), twin.predict_proba(X), atol=1e-5)
    assert model.score(X, y, weight) == pytest.approx(twin.score(X, y, weight), rel=1e-14)


def test_without_a_penalty():
    X, y, _ = iris()
    X = X + np.random.default_rng(1).normal(size=X.shape)  # no class is apart from another
    assert_same(LogisticRegression(C=np.inf, tol=1e-10).fit(X, y), tight(C=np.inf).fit(X, y))


def test_float32_is_as_right_as_its_numbers():
    X, y, weight = iris()
    single = X.astype(np.float32)
    twin = tight().fit(single.astype(float), y, weight)
    assert_same(LogisticRegression(tol=1e-13).fit(single, y, weight), twin)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_weights_of_zero(l1_ratio):
    X, y, _ = wine()
    twin = reference.LogisticRegression(C=0.1, l1_ratio=l1_ratio, solver="saga", tol=1e-9, max_iter=10**5)
    twin.fit(X, y)
    model = LogisticRegression(C=0.1, l1_ratio=l1_ratio, tol=1e-12, max_iter=10**5).fit(X, y)
    assert_same(model, twin, 1e-4)
    assert (model.coef_ == 0).any()
    assert np.array_equal(model.coef_ == 0, np.abs(twin.coef_) < 1e-9)


def test_predictions_and_the_twin():
    X, y, _ = iris()
    names = np.array(["a", "bc", "d"])[y]
    model = LogisticRegression().fit(X, names)
    twin = model.to_sklearn()
    assert model.classes_.tolist() == ["a", "bc", "d"]
    assert np.array_equal(model.decision_function(X), twin.decision_function(X))
    assert np.array_equal(model.predict(X), twin.predict(X))
    assert np.allclose(model.predict_proba(X), twin.predict_proba(X), rtol=1e-12)
    assert np.allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-12)
    assert np.isfinite(model.predict_log_proba(1e4 * X)).all()
    assert model.predict(X[:0]).shape == (0,)
    assert clone(model).fit(X, names).coef_.tobytes() == model.coef_.tobytes()


def test_a_data_set():
    X, y, weight = iris()
    data = ArrayDataset(X, y + 5.0, weight, comm=SerialCommunicator())
    model = LogisticRegression().fit(data)
    assert model.classes_.tolist() == [5.0, 6.0, 7.0]
    assert model.decision_function(data).shape == (150, 3)
    assert model.score(data) == pytest.approx(model.score(X, y + 5, weight))


@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_the_same_bits_on_any_number_of_ranks(solver):
    """The rows are sorted by class: ranks miss classes, and one has no rows."""
    X, y, weight = iris()

    def program(comm):
        inner = np.random.default_rng(comm.size).integers(0, 150, max(comm.size - 2, 0))
        borders = [0] * (comm.size > 1) + [0, *sorted(inner), 150]
        rows = slice(borders[comm.rank], borders[comm.rank + 1])
        model = LogisticRegression(solver=solver, comm=comm, class_weight="balanced")
        model.fit(X[rows], y[rows], weight[rows])
        return model.coef_.tobytes() + model.intercept_.tobytes(), model.score(X[rows], y[rows])

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


def test_warm_start():
    X, y, _ = iris()
    model = LogisticRegression(warm_start=True, tol=1e-12).fit(X, y)
    coef = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] <= 1
    assert np.allclose(model.coef_, coef, atol=1e-8)
    with pytest.raises(DataError, match="the last fit had 3 row"):
        model.fit(X, np.minimum(y, 1))
    with pytest.raises(DataError, match="X has 2 features, and the last fit had 4"):
        model.fit(X[:, :2], y)


def test_a_class_without_weight_is_never_likely():
    X, y, _ = iris()
    model = LogisticRegression(class_weight={1: 0.0}).fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X)[:, 1].max() < 1e-6
    assert model.certificate_ <= 1e-6


def test_from_a_model():
    X, y, _ = iris()
    fitted = LogisticRegression().fit(X, y)
    model = LinearModel(
        "logistic_regression", fitted.coef_, fitted.intercept_, np.arange(3.0), np.zeros(4), np.ones(4)
    )
    back = estimator_from_model(model, labels=["x", "y", "z"])
    assert back.n_features_in_ == 4
    assert np.array_equal(back.decision_function(X), fitted.decision_function(X))
    assert back.predict(X).tolist() == np.array(["x", "y", "z"])[fitted.predict(X)].tolist()


def test_too_many_classes():
    with pytest.raises(DataError, match="more than 1000 distinct values"):
        LogisticRegression().fit(np.zeros((1200, 1)), np.arange(1200))
