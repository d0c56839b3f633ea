"""Support vector classification, and weights of classes, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as reference
from estimators.test_against_sklearn import off, tight
from scipy import sparse
from scipy.optimize import minimize
from sklearn.svm import LinearSVC as Twin

from hpcml.collectives import run_threads
from hpcml.errors import SpecError
from hpcml.estimators import LinearSVC, LogisticRegression

WEIGHTS = [None, "balanced", {0: 3.0}, {0: 0.5, 1: 2.0}]


def scaled(X):
    return X / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)


@pytest.mark.parametrize(
    ("C", "solver"), [(1e-3, "newton"), (1e-3, "nesterov"), (1e-3, "gd"), (1.0, "newton"), (1.0, "lbfgs")]
)
@pytest.mark.parametrize("class_weight", WEIGHTS, ids=str)
def test_without_an_intercept_it_is_scikit_learns(problem, C, class_weight, solver):
    X, y, weight = problem("breast cancer")
    X = scaled(X)
    twin = Twin(C=C, fit_intercept=False, dual=False, tol=1e-10, max_iter=10**6, class_weight=class_weight)
    twin.fit(X, y, weight)
    for rows in (X, sparse.csr_array(X)):
        model = LinearSVC(C=C, fit_intercept=False, tol=1e-13, max_iter=5000, class_weight=class_weight)
        model.set_params(solver=solver).fit(rows, y, weight)
        assert model.converged_, model.reason_
        assert off(model.coef_, twin.coef_) < 5e-5
    assert (type(model.intercept_), model.intercept_) == (type(twin.intercept_), twin.intercept_)
    assert np.array_equal(model.predict(X), twin.predict(X))
    assert np.array_equal(model.to_sklearn().predict(X), twin.predict(X))
    assert model.score(X, y, weight) == pytest.approx(twin.score(X, y, weight), abs=1e-12)
    assert model.set_params(warm_start=True).fit(X, y, weight).n_iter_ <= 2
    assert np.allclose(model.decision_function(X), twin.decision_function(X), atol=1e-4)


def test_with_an_intercept_it_is_the_optimum_without_its_penalty(problem):
    X, y, weight = problem("breast cancer")
    X, t = scaled(X), 2 * y - 1

    def objective(w):
        missing = np.maximum(1 - t * (X @ w[:-1] + w[-1]), 0)
        gradient = -2 * weight * t * missing
        value = weight @ missing**2 + 0.5 * w[:-1] @ w[:-1]
        return value, np.append(X.T @ gradient + w[:-1], gradient.sum())

    best = minimize(objective, np.zeros(X.shape[1] + 1), jac=True, method="BFGS", options={"gtol": 1e-9})
    model = LinearSVC(tol=1e-12).fit(X, y, weight)
    assert model.objective_ * weight.sum() == pytest.approx(best.fun, rel=1e-9)
    assert off(np.append(model.coef_, model.intercept_), best.x) < 1e-4


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", WEIGHTS, ids=str)
@pytest.mark.parametrize("name", ["breast cancer", "digit 8"])
def test_logistic_with_weights_of_classes(problem, name, class_weight, weighted):
    X, y, weight = problem(name)
    weight = weight if weighted else None
    twin = tight(C=0.1, class_weight=class_weight).fit(X, y, weight)
    model = LogisticRegression(0.1, tol=1e-15, class_weight=class_weight).fit(X, y, weight)
    assert model.converged_
    assert off(model.coef_, twin.coef_) < 1e-6
    assert off(model.intercept_, twin.intercept_) < 1e-6


def test_weights_by_any_label(problem):
    X, codes, _ = problem("breast cancer")
    expected = LogisticRegression(class_weight={0: 2.0, 1: 5.0}).fit(X, codes).coef_
    for names in (["no", "yes"], [False, True], [-1.0, 4.0]):
        weights = dict(zip(names, (2.0, 5.0), strict=True))
        model = LogisticRegression(class_weight=weights).fit(X, np.array(names)[codes])
        assert np.array_equal(model.coef_, expected)


@pytest.mark.parametrize("kind", [LogisticRegression, LinearSVC])
def test_weights_of_no_class(kind):
    X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    for weights in ({7: 2.0}, {0: 1.0, 7: 2.0}):
        with pytest.raises(SpecError, match="are not in class_weight"):
            kind(class_weight=weights).fit(X, y)
        with pytest.raises(ValueError, match="are not in class_weight"):
            reference.LogisticRegression(class_weight=weights).fit(X, y)
    kind(class_weight={0: 1.0, 1: 2.0, 7: 3.0}).fit(X, y)


def test_a_separable_set_without_a_penalty():
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
    model = LinearSVC(C=np.inf).fit(X, y)
    assert model.converged_ and model.objective_ < 1e-12


@pytest.mark.parametrize("name", ["penalty", "loss"])
def test_other_penalties_and_losses_are_refused(name):
    with pytest.raises(SpecError, match=name):
        LinearSVC(**{name: {"penalty": "l1", "loss": "hinge"}[name]}).fit([[0.0], [1.0]], [0, 1])


def test_a_class_on_one_rank_alone(problem):
    X, y, _ = problem("many")
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    serial = LinearSVC(class_weight="balanced").fit(X, y)

    def program(comm):
        rows = [slice(0, 100), slice(100, 100), slice(100, None)][comm.rank]
        return LinearSVC(class_weight="balanced", comm=comm).fit(X[rows], y[rows]).coef_.tobytes()

    assert run_threads(3, program) == [serial.coef_.tobytes()] * 3
