"""The first look names what is wrong, and knows the data by content."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, Problem, as_csr, in_memory
from hypothesis import given
from hypothesis import strategies as st

from hpcml.algorithms.survey import Names, survey
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError

NAMES = Names("f.h5:X", "f.h5:y", "f.h5:w")
MAKES = pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])


def rows(n=150):
    rng = np.random.default_rng(0)
    return Problem(rng.normal(size=(n, 4)), rng.integers(0, 3, n).astype(float), rng.random(n))


def found(problem, size=3, classes=True, dataset=Grid):
    results = run_threads(size, lambda comm: survey(dataset(problem, comm), classes=classes, names=NAMES))
    for one in results:
        assert one.classes.tobytes() == results[0].classes.tobytes()
        assert one[:2] + one[3:] == results[0][:2] + results[0][3:]
    return results[0]


def refused(problem, size=3, classes=True):
    def program(comm):
        with pytest.raises(DataError) as caught:
            survey(Grid(problem, comm), classes=classes, names=NAMES)
        return str(caught.value), caught.value.on_all_ranks

    results = run_threads(size, program)
    assert results == [(results[0][0], True)] * size
    return results[0][0]


def spoilt(row, column, value, where="X"):
    problem = rows()
    array = getattr(problem, where)
    array[(row, column) if where == "X" else row] = value
    return problem


@MAKES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_number(make, value):
    problem = spoilt(97, 2, value)
    problem.X[97, 3] = problem.X[120, 0] = value
    problem.X[5:40] = 0.0  # CSR has no entries there
    for size in (1, 3, 7):
        assert refused(make(problem), size) == f"f.h5:X: row 97, column 2 is {value}"


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        ("y", np.nan, "f.h5:y: row 60 is nan"),
        ("weight", np.inf, "f.h5:w: row 60 is inf"),
        ("weight", -0.5, "f.h5:w: row 60 is negative (-0.5)"),
    ],
)
def test_bad_labels_and_weights(where, value, sentence):
    assert refused(spoilt(60, None, value, where)) == sentence


def test_rows_are_named_as_in_the_source():
    problem = spoilt(97, 2, np.nan)

    def program(comm):
        survey(Grid(problem, comm, selection=RowSelection(start=90)), classes=True, names=NAMES)

    with pytest.raises(DataError, match="row 97, column 2"):
        run_threads(3, program)


def test_large_numbers_are_not_infinite():
    problem = rows()
    problem.X[:] = 1.7e308
    assert found(problem).n_rows == 150


def test_weights_and_rows_that_are_none():
    problem = rows()
    assert refused(problem._replace(weight=np.zeros(150))) == "f.h5:w: the weights are all zero"
    none = Problem(np.zeros((0, 4)), np.zeros(0))
    assert "no rows are left" in refused(none)


def test_what_it_finds():
    problem = rows()
    result = found(problem)
    assert result.n_rows == 150
    assert result.total_weight == pytest.approx(problem.weight.sum(), rel=1e-15)
    assert result.classes.tolist() == [0.0, 1.0, 2.0]
    assert found(problem, classes=False).classes.size == 0
    assert found(problem._replace(weight=None)).total_weight == 150.0


def test_labels_are_agreed():
    problem = rows(96)
    y = np.repeat([5.0, -1.0, 2.0], 32)
    assert found(problem._replace(y=y)).classes.tolist() == [-1.0, 2.0, 5.0]
    weight = np.repeat([1.0, 0.0, 1.0], 32)  # a class without weight is none
    assert found(problem._replace(y=y, weight=weight)).classes.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("order", [1, -1])
def test_zero_has_one_sign(order):
    y = np.repeat([-0.0, 0.0, 1.0], 32)[::order]
    for size in (1, 2, 3):
        classes = found(rows(96)._replace(y=y), size).classes
        assert np.signbit(classes).tolist() == [False, False]


def test_too_many_classes_for_any_split():
    problem = Problem(np.ones((1500, 1)), np.arange(1500.0))
    for size in (1, 2, 5):
        assert refused(problem, size) == "f.h5:y has more than 1000 distinct values: not a class label"
    assert found(problem, classes=False).n_rows == 1500


@MAKES
@given(size=st.integers(1, 6))
def test_the_digest_is_of_the_rows(make, size):
    problem = make(rows())
    expected = found(problem, 1).digest
    assert len(expected) == 32
    assert found(problem, size).digest == expected


@MAKES
def test_the_digest_of_arrays(make):
    problem = make(rows())
    assert found(problem, 4, dataset=in_memory).digest == found(problem, 1, dataset=in_memory).digest


@MAKES
def test_any_change_changes_the_digest(make):
    seen = {found(make(rows())).digest}
    for where, at in (("X", (149, 3)), ("y", 7), ("weight", 7)):
        problem = rows()
        getattr(problem, where)[at] += 1e-9
        seen.add(found(make(problem)).digest)
    swapped = rows()
    order = np.arange(150)
    order[[3, 140]] = [140, 3]
    seen.add(found(make(Problem(*(array[order] for array in swapped)))).digest)
    seen.add(found(make(rows()._replace(weight=None))).digest)
    moved = rows()
    moved.X[:, [0, 1]] = moved.X[:, [1, 0]]
    seen.add(found(make(moved)).digest)
    assert len(seen) == 7


def test_messages():
    counting = CountingCommunicator(SerialCommunicator())
    survey(Grid(rows(), counting), classes=True)
    assert counting.calls == {"allreduce": 4, "allgather": 1}
