"""The same bits on any number of ranks and any split, and errors that all ranks agree on."""

from __future__ import annotations

import copy
import hashlib
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, HpcmlError, SpecError
from hpcml.estimators import (
    GammaRegressor,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)

CASES = [
    (LogisticRegression(), "many"),
    (LogisticRegression(solver="lbfgs"), "many"),
    (LogisticRegression(solver="nesterov", tol=1e-4), "many"),
    (LogisticRegression(solver="gd", tol=1e-4), "many"),
    (Ridge(10.0), "many regression"),
    (LinearRegression(), "many regression"),
    (LinearSVC(class_weight="balanced"), "many"),
    (LinearSVC(solver="lbfgs", C=1e-3), "many"),
    (PoissonRegressor(), "many counts"),
    (PoissonRegressor(solver="gd", alpha=0.0, tol=1e-4), "many counts"),
    (GammaRegressor(solver="lbfgs"), "many amounts"),
    (TweedieRegressor(power=1.5, solver="nesterov", tol=1e-4), "many counts"),
]
IDS = ["newton", "lbfgs", "nesterov", "gd", "ridge", "least squares", "balanced svc", "svc", "Poisson",
       "Poisson gd", "gamma", "Tweedie"]  # fmt: skip


def cut(n, size, seed):
    """Borders of `size` runs of rows, at random; with three ranks or more one has no rows."""
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.integers(0, n, size - 1))
    if size > 2:
        borders[rng.integers(1, size - 1)] = borders[0]
    return np.concatenate([[0], np.sort(borders), [n]])


def digest(model):
    return hashlib.sha256(np.append(model.coef_, model.intercept_).tobytes()).hexdigest()


def fitted(estimator, arrays, size, seed=0):
    """Fit on `size` ranks of a random split; return what each rank has."""
    borders = cut(arrays[1].shape[0], size, seed)

    def program(comm):
        mine = [array[borders[comm.rank] : borders[comm.rank + 1]] for array in arrays]
        model = clone(estimator).set_params(comm=comm).fit(*mine)
        return digest(model), model.score(*mine), model.certificate_, model.objective_

    return run_threads(size, program)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize(("estimator", "name"), CASES, ids=IDS)
def test_the_same_bits_on_any_number_of_ranks(problem, estimator, name, make):
    X, y, weight = problem(name)
    arrays = [make(X), y, weight]
    serial = clone(estimator).fit(*arrays)
    expected = (digest(serial), serial.score(*arrays))
    for size in (1, 2, 3, 5):
        found = fitted(estimator, arrays, size, seed=size)
        assert {one[:2] for one in found} == {expected}, size
        assert all(one == found[0] for one in found)


def test_float32_and_more_ranks_than_shards(problem):
    X, y, _ = problem("breast cancer")
    arrays = [X.astype(np.float32), y]
    expected = digest(LogisticRegression().fit(*arrays))
    assert {one[0] for one in fitted(LogisticRegression(), arrays, 5)} == {expected}


def test_a_rank_may_lack_a_class(problem):
    X, codes, _ = problem("many")
    order = np.argsort(codes, kind="stable")
    y = np.array(["aye", "certainly not"])[codes][order]
    X = X[order]
    serial = LogisticRegression().fit(X, y)

    def program(comm):
        # Two strings of another width each, and a rank with objects.
        half = np.count_nonzero(y == "aye")
        labels = [y[:half].astype("U3"), y[half:].astype(object), y[:0].astype(float)][comm.rank]
        rows = [X[:half], X[half:], X[:0]][comm.rank]
        model = LogisticRegression(comm=comm).fit(rows, labels)
        return digest(model), model.classes_.tolist(), model.score(rows, labels)

    expected = (digest(serial), ["aye", "certainly not"], serial.score(X, y))
    assert run_threads(3, program) == [expected] * 3


def test_a_data_set_of_ranks(problem):
    X, y, _ = problem("many")
    borders = cut(y.size, 3, 0)

    def program(comm):
        rows = slice(borders[comm.rank], borders[comm.rank + 1])
        data = ArrayDataset(X[rows], y[rows], comm=comm)
        model = LogisticRegression().fit(data)
        predicted = model.predict(data).size
        return digest(model), model.score(data), sum(comm.allgather(predicted))

    serial = LogisticRegression().fit(X, y)
    assert run_threads(3, program) == [(digest(serial), serial.score(X, y), y.size)] * 3


def errors_of(program, size=3):
    """Run `program(comm)` on all ranks and return the error of each."""

    def caught(comm):
        try:
            program(comm)
        except HpcmlError as error:
            return type(error), str(error)
        return None

    return run_threads(size, caught, timeout=20)


def bad_rows(what):
    """Return X, y and weight of a rank, of which rank 1's are off."""

    def rows(rank):
        rng = np.random.default_rng(rank)
        X, y, weight = rng.normal(size=(20, 3)), np.arange(20) % 2, np.ones(20)
        if what == "one class":
            return X, np.ones(20, int), weight
        if what == "no rows":
            return X[:0], y[:0], weight[:0]
        if what == "three classes":
            return X, y + rank, weight
        if rank != 1 or not what:
            return X, y, weight
        return {
            "columns": (X[:, :2], y, weight),
            "dtype": (X.astype(np.float32), y, weight),
            "kind": (sparse.csr_array(X), y, weight),
            "NaN": (np.where(X > 1, np.nan, X), y, weight),
            "lengths": (X, y[:3], weight),
            "labels": (X, np.array(["a", "b"])[y], weight),
            "continuous": (X, rng.normal(size=20), weight),
            "weight": (X, y, None),
            "negative": (X, y, -weight),
            "text": (np.full((20, 3), "?"), y, weight),
            "object": (np.array([[{}] * 3] * 20, object), y, weight),
        }[what]

    return rows


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("columns", "ranks differ in columns"),
        ("dtype", "ranks differ in dtype of X"),
        ("kind", "ranks differ in kind of X"),
        ("NaN", "Input X contains NaN"),
        ("lengths", "inconsistent numbers of samples"),
        ("labels", "ranks differ in the type of y: <U1, int64"),
        ("continuous", "continuous"),
        ("weight", "ranks differ in weight"),
        ("negative", "is negative"),
        ("text", "could not convert string to float"),
        ("object", "argument must be a string or a real number"),
        ("one class", "only one class: 1"),
        ("no rows", "no row has a label"),
    ],
)
def test_bad_rows_are_refused_on_all_ranks(what, sentence):
    rows = bad_rows(what)
    found = errors_of(lambda comm: LogisticRegression(comm=comm).fit(*rows(comm.rank)))
    assert len(set(found)) == 1
    kind, text = found[0]
    assert kind is DataError
    assert sentence in text


def test_three_classes_are_refused_on_all_ranks_by_a_classifier_of_two():
    rows = bad_rows("three classes")
    found = errors_of(lambda comm: LinearSVC(comm=comm).fit(*rows(comm.rank)))
    assert len(set(found)) == 1
    assert found[0][0] is DataError
    assert "Only binary classification is supported" in found[0][1]


@pytest.mark.parametrize("what", ["columns", "NaN", "lengths", "no rows"])
def test_bad_rows_of_a_regression_and_of_a_score(what):
    rows = bad_rows(what)
    model = Ridge().fit(*bad_rows("")(0))
    for call in (lambda comm: Ridge(comm=comm).fit, lambda comm: on_ranks(model, comm).score):
        found = errors_of(lambda comm, call=call: call(comm)(*rows(comm.rank)))
        assert len(set(found)) == 1
        assert found[0][0] is DataError


def on_ranks(model, comm):
    """Return the fitted model again, on other ranks."""
    return copy.copy(model).set_params(comm=comm)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (lambda rank: {"C": 1.0 + (rank == 1)}, "ranks differ in C: 1.0, 2.0"),
        (lambda rank: {"solver": "gd" if rank else "newton"}, "ranks differ in solver: gd, newton"),
        (lambda rank: {"max_iter": -rank + 1}, "max_iter"),
    ],
)
def test_bad_parameters_are_refused_on_all_ranks(parameters, sentence):
    rows = bad_rows("")
    found = errors_of(
        lambda comm: LogisticRegression(comm=comm, **parameters(comm.rank)).fit(*rows(comm.rank))
    )
    assert len(set(found)) == 1
    assert found[0][0] is SpecError
    assert sentence in found[0][1]


def test_tables_of_other_columns_are_refused():
    pandas = pytest.importorskip("pandas")

    def program(comm):
        X, y, _ = bad_rows("")(comm.rank)
        names = ["a", "b", "c"] if comm.rank else ["a", "c", "b"]
        LogisticRegression(comm=comm).fit(pandas.DataFrame(X, columns=names), y)

    found = errors_of(program)
    assert len(set(found)) == 1
    assert "ranks differ in the names of features" in found[0][1]


def test_two_communicators_are_refused():
    def program(comm):
        X, y, _ = bad_rows("")(comm.rank)
        LogisticRegression(comm=SerialCommunicator()).fit(ArrayDataset(X, y, comm=comm))

    assert {kind for kind, _ in errors_of(program)} == {SpecError}


def test_only_the_first_rank_warns():
    rows = bad_rows("")

    def program(comm):
        model = LogisticRegression(comm=comm, solver="gd", max_iter=1, tol=1e-14).fit(*rows(comm.rank))
        return model.converged_, model.reason_

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run_threads(3, program)
    assert found == [(False, "max_iter was reached")] * 3
    assert [warning.category for warning in caught] == [ConvergenceWarning]


def test_world_under_mpiexec(problem, spmd):
    X, y, _ = problem("many")
    names = np.array(["no", "yes"])[y]
    serial = LogisticRegression().fit(X, names)
    done = spmd(
        3,
        """
        import hashlib, runpy
        import numpy as np
        from hpcml.collectives import world
        from hpcml.estimators import LogisticRegression

        X, y, _ = runpy.run_path(CONFTEST)["make_problem"]("many")
        rows = slice(*([0, 100, 100, len(y)][world().rank :][:2]))
        labels = np.array(["no", "yes"])[y[rows]]
        model = LogisticRegression(comm="world").fit(X[rows], labels)
        bits = hashlib.sha256(np.append(model.coef_, model.intercept_).tobytes()).hexdigest()
        print(bits, model.score(X[rows], labels), *model.classes_, flush=True)
        """.replace("CONFTEST", repr(__file__.replace("test_ranks", "conftest"))),
        check=0,
    )
    assert done.lines == [f"{digest(serial)} {serial.score(X, names)} no yes"] * 3
