"""scikit-learn's own checks, and its tools over our estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
    inputs,
)

ALL = [
    LogisticRegression(),
    LogisticRegression(class_weight="balanced", warm_start=True),
    LogisticRegression(l1_ratio=0.5),
    LinearSVC(),
    LinearRegression(),
    Ridge(),
    Lasso(),
    ElasticNet(positive=True, warm_start=True),
    PoissonRegressor(),
    GammaRegressor(),
    TweedieRegressor(),
    TweedieRegressor(power=1.5),
    HuberRegressor(),
    SGDClassifier(max_iter=30),
    SGDClassifier("squared_hinge", penalty="elasticnet", average=True, max_iter=30),
    SGDRegressor(penalty="l1", warm_start=True, max_iter=30),
    SGDRegressor(average=True, max_iter=30),
]
each = pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)


@parametrize_with_checks(ALL)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@each
def test_a_pickle_predicts_the_same(problem, estimator):
    X, y, _ = problem("breast cancer")
    model = clone(estimator).set_params(comm=SerialCommunicator()).fit(X, y + 1)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.comm is None  # ranks do not outlive their process
    assert pickle.loads(pickle.dumps(estimator.set_params(comm="world"))).comm == "world"
    estimator.set_params(comm=None)


@each
def test_a_clone_shares_the_communicator(estimator):
    comm = SerialCommunicator()
    copied = clone(clone(estimator).set_params(comm=comm, tol=0.5))
    assert copied.comm is comm
    assert copied.tol == 0.5
    assert not hasattr(copied, "coef_")


def test_grid_search_and_pipeline(problem):
    X, y, _ = problem("breast cancer")
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(steps, {"logisticregression__C": [1e-3, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"logisticregression__C": 1.0}
    assert search.best_score_ > 0.95
    X, y, _ = problem("diabetes")
    assert cross_val_score(Ridge(), X, y, cv=3, scoring="r2").mean() > 0.4


@each
def test_unfitted(estimator):
    X = np.zeros((2, 2))
    for method in ("predict", "score", "to_sklearn"):
        arguments = {"predict": (X,), "score": (X, [0, 1]), "to_sklearn": ()}[method]
        with pytest.raises(NotFittedError):
            getattr(clone(estimator), method)(*arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("C", 0.0), ("C", -1.0), ("C", "1"), ("tol", 0.0), ("tol", -1e-3), ("max_iter", 0), ("max_iter", 1.5),
     ("solver", "sag"), ("fit_intercept", "yes"), ("memory", 0), ("comm", "every"), ("comm", 3)],
)  # fmt: skip
def test_wrong_parameters_are_named(name, value):
    with pytest.raises(SpecError, match=name):
        LogisticRegression(**{name: value}).fit([[0.0], [1.0]], [0, 1])


def test_a_table_gives_its_names(problem):
    X, y, _ = problem("breast cancer")
    names = [f"column {j}" for j in range(X.shape[1])]
    model = LogisticRegression().fit(pd.DataFrame(X, columns=names), pd.Series(y))
    assert model.feature_names_in_.tolist() == names
    assert np.array_equal(model.coef_, LogisticRegression().fit(X, y).coef_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pd.DataFrame(X, columns=names[::-1]))


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [False, True], [-1, 1], [2.0, 1.0], np.array(["b", "a"], object)],
    ids=["str", "bool", "int", "float", "object"],
)
def test_labels_keep_order_and_dtype(problem, labels):
    X, codes, _ = problem("breast cancer")
    y = np.asarray(labels)[codes]
    model = LogisticRegression().fit(X, y)
    expected = np.unique(y)
    assert model.classes_.dtype == expected.dtype
    assert model.classes_.tolist() == expected.tolist()
    assert model.predict(X).dtype == expected.dtype
    assert model.score(X, y) == accuracy_score(y, model.predict(X)) > 0.9


def test_probabilities(problem):
    X, y, _ = problem("breast cancer")
    model = LogisticRegression().fit(X, y)
    z = model.decision_function(X)
    p = model.predict_proba(X)
    assert np.allclose(p[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
    assert np.allclose(p.sum(axis=1), 1, rtol=1e-15)
    assert np.allclose(np.exp(model.predict_log_proba(X)), p, rtol=1e-10, atol=1e-15)
    assert np.isfinite(model.predict_log_proba(1e6 * X)).all()


def test_an_unknown_label_is_a_wrong_prediction(problem):
    X, y, _ = problem("breast cancer")
    model = LogisticRegression().fit(X, y)
    strange = np.where(np.arange(y.size) < 10, 7, y)
    assert model.score(X, strange) == accuracy_score(strange, model.predict(X))


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_r2_is_scikit_learns(y):
    X = np.array([[0.0], [1.0], [2.0]])
    model = LinearRegression().fit(X, [0.0, 1.0, 2.0])
    weight = [1.0, 2.0, 0.5]
    assert model.score(X, y, weight) == pytest.approx(r2_score(y, model.predict(X), sample_weight=weight))
    assert np.isnan(model.score(X[:1], y[:1]))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@each
def test_float32_is_not_copied(problem, estimator, make, monkeypatch):
    X, y, _ = problem("breast cancer")
    seen = []

    def spy(X, *args, **kwargs):
        seen.append(X)
        return ArrayDataset(X, *args, **kwargs)

    monkeypatch.setattr("hpcml.estimators.base.ArrayDataset", spy)
    single = make(X.astype(np.float32))
    y = y + 1  # gamma takes labels above zero
    model = clone(estimator).fit(single, y)
    data = [getattr(array, "data", array) if sparse.issparse(array) else array for array in (single, seen[0])]
    assert np.shares_memory(*data)
    assert model.coef_.dtype == np.float64
    assert np.allclose(model.coef_, clone(estimator).fit(single.astype(np.float64), y).coef_, rtol=1e-4)


def test_layout_does_not_change_the_bits(problem):
    X, y, _ = problem("breast cancer")
    bits = {LogisticRegression().fit(order(X), y).coef_.tobytes() for order in (np.asfortranarray, np.array)}
    assert len(bits) == 1


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([1, 1, 1], "only one class: 1"),
        ([0.1, 0.2, 0.7], "continuous"),
        ([0.0, 1.0, np.nan], "NaN"),
        ([0, 1], "inconsistent numbers of samples"),
        (np.array(["2020", "2021", "2021"], "M8[Y]"), "labels must be strings"),
    ],
)
def test_labels_that_no_classifier_takes(y, sentence):
    with pytest.raises(DataError, match=sentence):
        LogisticRegression().fit([[0.0], [1.0], [2.0]], y)


@each
def test_weights_that_none_takes(estimator):
    X, y = [[0.0], [1.0], [2.0]], [1, 2, 2]
    for weight, sentence in (([1, -1, 1], "sample_weight: row 1 is negative"), ([0, 0, 0], "zero")):
        with pytest.raises(DataError, match=sentence):
            clone(estimator).fit(X, y, weight)


def test_a_data_set_brings_everything(problem):
    X, y, weight = problem("breast cancer")
    comm = SerialCommunicator()
    data = ArrayDataset(X, y, weight, comm=comm)
    for estimator in (LogisticRegression(), LogisticRegression(comm=comm)):
        model = estimator.fit(data)
        assert np.array_equal(model.coef_, LogisticRegression().fit(X, y, weight).coef_)
        assert np.array_equal(model.decision_function(data).round(9), model.decision_function(X).round(9))
        assert model.score(data) == model.score(X, y, weight)
    with pytest.raises(SpecError, match="its own y"):
        LogisticRegression().fit(data, y)
    with pytest.raises(SpecError, match="its own sample_weight"):
        model.score(data, sample_weight=weight)
    with pytest.raises(SpecError, match="communicator of its own"):
        LogisticRegression(comm=SerialCommunicator()).fit(data)
    with pytest.raises(DataError, match="no y"):
        Ridge().fit(ArrayDataset(X, comm=comm))
    with pytest.raises(DataError, match="has 3 features"):
        model.score(ArrayDataset(X[:, :3], y, comm=comm))
    named = LogisticRegression().fit(X, np.array(["no", "yes"])[y])
    with pytest.raises(DataError, match="y are numbers"):
        named.score(data)


@pytest.mark.parametrize(("size", "rank", "n"), [("2", "0", 1), ("2", "1", 0), ("1", "0", 0)])
def test_fitting_apart_under_a_launcher_warns_once(monkeypatch, recwarn, size, rank, n):
    monkeypatch.setenv("HPCML_EXPECT_SIZE", size)
    monkeypatch.setenv("PMI_RANK", rank)
    inputs._warn_of_apart.cache_clear()
    for _ in range(2):
        Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    inputs._warn_of_apart.cache_clear()
    texts = [str(warning.message) for warning in recwarn]
    assert sum("comm=None: each rank fits its own rows" in text for text in texts) == n
