"""Fitted models out to scikit-learn and in from a LinearModel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model as reference
from scipy import sparse
from sklearn import svm
from sklearn.base import clone

from hpcml.algorithms.linear_model import LinearModel
from hpcml.collectives import run_threads
from hpcml.errors import SpecError
from hpcml.estimators import (
    GammaRegressor,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    Outcome,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
    estimator_from_model,
)
from hpcml.estimators.blas import _LIMIT, one_blas_thread

CASES = [
    (LogisticRegression(2.0), "breast cancer", reference.LogisticRegression),
    (LinearRegression(), "diabetes", reference.LinearRegression),
    (Ridge(3.0, fit_intercept=False), "diabetes", reference.Ridge),
    (LinearSVC(C=0.1, class_weight={0: 2.0}), "breast cancer", svm.LinearSVC),
    (PoissonRegressor(alpha=0.1), "many counts", reference.PoissonRegressor),
    (GammaRegressor(), "many amounts", reference.GammaRegressor),
    (TweedieRegressor(power=1.5), "many counts", reference.TweedieRegressor),
    (TweedieRegressor(power=0), "diabetes", reference.TweedieRegressor),
]


def make(kind, classes=()):
    coef = np.array([0.5, -2.0, 0.0])
    return LinearModel(kind, coef, 0.25, np.array(classes, float), np.zeros(3), np.ones(3))


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, np.float32], ids=["f64", "csr", "f32"])
@pytest.mark.parametrize(("estimator", "name", "kind"), CASES)
def test_the_twin_predicts_the_same(problem, estimator, name, kind, convert):
    X, y, weight = problem(name)
    model = clone(estimator).fit(X, y, weight)
    twin = model.to_sklearn()
    rows = convert(X)
    assert type(twin) is kind
    assert np.array_equal(twin.predict(rows), model.predict(rows))
    assert twin.score(rows, y) == pytest.approx(model.score(rows, y), rel=1e-9)
    assert twin.n_features_in_ == X.shape[1]
    assert twin.fit_intercept == model.fit_intercept
    if kind is reference.LogisticRegression:
        assert twin.C == 2.0
        assert twin.n_iter_ == model.n_iter_
        assert np.array_equal(twin.decision_function(rows), model.decision_function(rows))
        assert np.allclose(twin.predict_proba(rows), model.predict_proba(rows), rtol=1e-15, atol=0)
    twin.coef_ += 1.0
    assert np.array_equal(model.predict(rows), clone(estimator).fit(X, y, weight).predict(rows))


def test_a_classifier_from_a_model():
    outcome = Outcome(7, 0.5, 1e-9, True, "certified")
    model = make("logistic_regression", [0, 1])
    X = pd.DataFrame(np.eye(3), columns=["a", "b", "c"])
    found = estimator_from_model(
        model, labels=["late", "early"], feature_names=["a", "b", "c"], outcome=outcome, C=2.0, tol=1e-3
    )
    assert isinstance(found, LogisticRegression)
    assert (found.C, found.tol) == (2.0, 1e-3)
    assert found.decision_function(X).tolist() == [0.75, -1.75, 0.25]
    assert found.predict(X).tolist() == ["early", "late", "early"]
    assert found.score(X, ["early", "late", "late"]) == 2 / 3
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    assert found.n_iter_.tolist() == [7]
    assert (found.objective_, found.certificate_, found.converged_) == (0.5, 1e-9, True)
    assert estimator_from_model(model).classes_.tolist() == [0.0, 1.0]
    assert found.to_sklearn().predict(X).tolist() == ["early", "late", "early"]


def test_a_regressor_from_a_model():
    model = make("linear_regression")
    plain, ridge = estimator_from_model(model, alpha=0.0), estimator_from_model(model, alpha=2.0)
    assert (type(plain), type(ridge)) == (LinearRegression, Ridge)
    assert ridge.alpha == 2.0
    assert plain.predict(np.eye(3)).tolist() == [0.75, -1.75, 0.25]
    assert not plain.converged_ and np.isnan(plain.certificate_)  # nothing is claimed of an unknown fit


def test_models_with_a_log_link():
    poisson = estimator_from_model(make("poisson_regression"), alpha=0.5)
    assert (type(poisson), poisson.alpha) == (PoissonRegressor, 0.5)
    assert poisson.predict(np.eye(3)).tolist() == np.exp([0.75, -1.75, 0.25]).tolist()
    tweedie = estimator_from_model(make("tweedie_regression")._replace(power=1.3))
    assert (type(tweedie), tweedie.power, tweedie.alpha) == (TweedieRegressor, 1.3, 1.0)
    identity = estimator_from_model(make("tweedie_regression"))
    assert identity.predict(np.eye(3)).tolist() == [0.75, -1.75, 0.25]
    svc = estimator_from_model(make("linear_svc", [0, 1]), C=3.0)
    assert (type(svc), svc.C, svc.predict(np.eye(3)).tolist()) == (LinearSVC, 3.0, [1.0, 0.0, 1.0])


def test_models_that_have_no_estimator():
    with pytest.raises(SpecError, match="kmeans"):
        estimator_from_model(make("kmeans"))
    with pytest.raises(SpecError, match="alpha"):
        estimator_from_model(make("logistic_regression", [0, 1]), alpha=1.0)
    with pytest.raises(SpecError, match="1 labels for the 2 classes"):
        estimator_from_model(make("logistic_regression", [0, 1]), labels=["a"])
    with pytest.raises(SpecError, match="Ridge is no logistic_regression"):
        Ridge._from_model(make("logistic_regression", [0, 1]))


@pytest.mark.parametrize("labels", [[0.0, 1.0], [-1.0, 5.0]])
def test_a_model_keeps_the_labels_of_its_data(problem, labels):
    X, y, _ = problem("breast cancer")
    model = LogisticRegression().fit(X, np.array(labels)[y])
    assert model.classes_.tolist() == labels


def test_blas_gets_its_threads_back_from_the_last():
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            with pytest.raises(ValueError), one_blas_thread():
                raise ValueError
            assert threads() == {1}
        assert threads() == {2}
    assert _LIMIT.holders == 0


def test_blas_has_one_thread_whichever_thread_asks():
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def program(comm):
        with one_blas_thread():
            comm.allgather(comm.rank)
            found = threads()
            comm.allgather(comm.rank)
        return found

    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            pass
        assert run_threads(2, program) == [{1}, {1}]
        assert threads() == {2}
