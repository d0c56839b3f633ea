"""SGDClassifier and SGDRegressor: by their objective, and by rows that come in turns."""

from __future__ import annotations

import numpy as np
import pytest
from estimators.test_ranks import cut, digest, errors_of
from scipy import sparse
from scipy.special import huber
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier as ClassifierTwin
from sklearn.linear_model import SGDRegressor as RegressorTwin

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import ElasticNet, LogisticRegression, SGDClassifier, SGDRegressor

BATCHES = {"alpha": 0.01, "batch_size": 1000}
CASES = {
    "log loss": (SGDClassifier(**BATCHES), "many"),
    "squared hinge": (SGDClassifier("squared_hinge", penalty="elasticnet", **BATCHES), "many"),
    "averaged": (SGDClassifier(average=True, max_iter=3, **BATCHES), "many"),
    "regression": (SGDRegressor(penalty="l1", **BATCHES), "many regression"),
    "averaged regression": (SGDRegressor(average=True, max_iter=3, **BATCHES), "many regression"),
}
EACH = pytest.mark.parametrize(("estimator", "name"), CASES.values(), ids=CASES)
QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def objective_of(model, X, y, share=1.0):
    """The objective row by row, as scikit-learn's documentation has it; at zero for no share of the model."""
    coef = share * np.ravel(model.coef_)
    z = np.ravel(X @ coef + share * model.intercept_)
    t = 2 * y - 1
    losses = {
        "log_loss": lambda: np.logaddexp(0, -t * z),
        "squared_hinge": lambda: np.maximum(0, 1 - t * z) ** 2,
        "squared_error": lambda: 0.5 * (y - z) ** 2,
        "huber": lambda: huber(model.epsilon, y - z),
    }
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": model.l1_ratio}[model.penalty]
    penalty = ratio * np.abs(coef).sum() + 0.5 * (1 - ratio) * coef @ coef
    return losses[model.loss]().mean() + model.alpha * penalty


@QUIET
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize(
    ("ours", "twin", "name"),
    [
        (SGDClassifier("log_loss"), ClassifierTwin("log_loss"), "many"),
        (SGDClassifier("squared_hinge"), ClassifierTwin("squared_hinge"), "many"),
        (SGDRegressor(), RegressorTwin(), "diabetes"),
        (SGDRegressor("huber", epsilon=1.0), RegressorTwin("huber", epsilon=1.0), "many regression"),
    ],
    ids=["log_loss", "squared_hinge", "squared_error", "huber"],
)
def test_the_objective_is_no_worse_than_scikit_learns(problem, ours, twin, name, penalty):
    X, y, _ = problem(name)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    twin = clone(twin).set_params(penalty=penalty, alpha=0.01, average=True, max_iter=10, random_state=0)
    ours = clone(ours).set_params(penalty=penalty, alpha=0.01, batch_size=len(y) // 9).fit(X, y)
    assert ours.converged_
    assert ours.objective_ == pytest.approx(objective_of(ours, X, y), rel=1e-10)
    slack = ours.tol * objective_of(ours, X, y, share=0.0)  # what the certificate allows
    assert ours.objective_ <= objective_of(twin.fit(X, y), X, y) + slack


def test_the_exact_optimum(problem):
    X, y, _ = problem("many")
    exact = LogisticRegression(C=1 / (0.01 * len(y))).fit(X, y)
    found = SGDClassifier(tol=1e-8, **BATCHES).fit(X, y)
    assert found.converged_
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=1e-3)
    assert np.allclose(found.predict_proba(X), exact.predict_proba(X), atol=1e-3)
    X, y, _ = problem("many regression")
    exact = ElasticNet(0.1, l1_ratio=0.4).fit(X, y)
    found = SGDRegressor(penalty="elasticnet", alpha=0.1, l1_ratio=0.4, tol=1e-8, batch_size=500).fit(X, y)
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=1e-3)
    assert np.array_equal(found.coef_ == 0, exact.coef_ == 0)


@QUIET
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@EACH
def test_the_same_bits_on_any_number_of_ranks(problem, estimator, name, make):
    X, y, weight = problem(name)
    arrays = [make(X), y, weight]

    def program(comm):
        borders = cut(len(y), comm.size, seed=comm.size)
        mine = [array[borders[comm.rank] : borders[comm.rank + 1]] for array in arrays]
        whole = clone(estimator).set_params(comm=comm).fit(*mine)
        classes = {"classes": [0, 1]} if isinstance(estimator, SGDClassifier) else {}
        turns = clone(estimator).set_params(comm=comm)
        for _ in range(2):
            turns.partial_fit(mine[0], mine[1], sample_weight=mine[2], **classes)
        return digest(whole), digest(turns), whole.score(*mine), turns.t_

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size


@pytest.mark.parametrize("average", [False, True])
def test_turns_come_near_the_optimum(problem, average):
    X, codes, _ = problem("many")
    y = np.array(["no", "yes"])[codes]
    best = LogisticRegression(C=1 / (0.01 * len(y))).fit(X, y)
    model = SGDClassifier(alpha=0.01, average=average, batch_size=200)
    for turn in range(12):
        rows = slice(turn % 3, None, 3)
        assert model.partial_fit(X[rows], y[rows], classes=["yes", "no"]) is model
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.t_ == 1 + 4 * len(y)
    assert objective_of(model, X, codes) <= best.objective_ * 1.03
    assert (model.converged_, model.n_iter_, np.isnan(model.certificate_)) == (False, 1, True)
    assert model.score(X, y) > best.score(X, y) - 0.02


def test_a_turn_may_bring_one_class_or_a_data_set(problem):
    X, y, _ = problem("many")
    model = SGDClassifier(**BATCHES).partial_fit(X[y == 1], y[y == 1], classes=[0, 1])
    assert model.predict(X).mean() > 0.9
    other = clone(model)
    data = ArrayDataset(X, y, comm=SerialCommunicator())
    other.partial_fit(data, classes=[0, 1])
    assert np.array_equal(other.coef_, clone(model).partial_fit(X, y, classes=[0, 1]).coef_)


def test_a_fit_forgets_turns_and_turns_go_on_from_a_fit(problem):
    X, y, _ = problem("many")
    alone = SGDClassifier(**BATCHES).fit(X, y)
    again = SGDClassifier(**BATCHES).partial_fit(X, y, classes=[0, 1]).fit(X, y)
    assert digest(alone) == digest(again)
    assert alone.t_ == 1 + alone.n_iter_ * len(y)
    before = alone.coef_.copy()
    alone.partial_fit(X, y)
    assert 0 < np.abs(alone.coef_ - before).max() < 0.3 * np.abs(before).max()


def test_what_partial_fit_refuses(problem):
    X, y, _ = problem("many")
    model = SGDClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, y)
    with pytest.raises(SpecError, match="balanced"):
        SGDClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])
    with pytest.raises(DataError, match="multiclass"):
        model.partial_fit(X, y, classes=[0, 1, 2])
    model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(SpecError, match="not the same as on the last call"):
        model.partial_fit(X, y, classes=[0, 2])
    with pytest.raises(DataError, match="labels that are not in classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :3], y)

    def differs(comm):
        SGDClassifier(comm=comm).partial_fit(X, y, classes=[0, 1 + comm.rank])

    found = errors_of(differs)
    assert len(set(found)) == 1
    assert found[0][0] is SpecError
    assert "ranks differ in classes" in found[0][1]


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (SGDClassifier("hinge"), "loss='hinge' .* take 'squared_hinge'"),
        (SGDClassifier("modified_huber"), "take 'squared_hinge'"),
        (SGDRegressor("epsilon_insensitive"), "loss='epsilon_insensitive' .* take 'huber'"),
        (SGDRegressor("absolute"), "loss"),
        (SGDClassifier(eta0=0.0), "eta0"),
        (SGDClassifier(random_state=-1), "random_state"),
        (SGDClassifier(batch_size=0), "batch_size"),
    ],
)
def test_wrong_parameters_are_named(estimator, sentence):
    with pytest.raises(SpecError, match=sentence):
        estimator.fit([[0.0], [1.0]], [0, 1])


def test_probabilities_are_of_the_log_loss_alone():
    assert hasattr(SGDClassifier(), "predict_proba")
    assert not hasattr(SGDClassifier("squared_hinge"), "predict_proba")


def test_random_state_draws_other_batches(problem):
    X, y, _ = problem("many")
    fits = [SGDClassifier(random_state=seed, tol=0.01, **BATCHES).fit(X, y) for seed in (None, 0, 1)]
    assert digest(fits[0]) == digest(fits[1]) != digest(fits[2])
