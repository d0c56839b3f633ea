"""The first look: what it finds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import Passes, blobs
from algorithms.problems import SERIAL, Grid, as_csr

from hpcml.algorithms.clustering.look import look
from hpcml.algorithms.survey import Names
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError

NAMES = Names("file.h5:X", weight="w")


def variance(problem):
    mean = np.average(problem.X, axis=0, weights=problem.weight)
    return np.average(np.square(problem.X - mean), axis=0, weights=problem.weight).mean()


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("mean", [0.0, 100.0, 1e7])
def test_the_variance(mean, make):
    problem = blobs(weighted=True)
    problem = problem._replace(X=problem.X + mean)
    expected = look(Grid(make(problem)), NAMES)
    assert expected.n_rows == 400
    assert expected.total_weight == problem.weight.sum()
    assert expected.variance == pytest.approx(variance(problem), rel=1e-6)
    for size in (2, 3, 20):
        assert run_threads(size, lambda comm: look(Grid(make(problem), comm), NAMES)) == [expected] * size


@pytest.mark.parametrize(("mean", "passes", "messages"), [(0.0, 1, 3), (1e7, 2, 5)])
def test_passes_and_messages(mean, passes, messages):
    comm = CountingCommunicator(SERIAL)
    data = Passes(Grid(blobs()._replace(X=blobs().X + mean), comm))
    look(data, NAMES)
    assert data.passes == passes
    assert dict(comm.calls) == {"allreduce": messages}


def test_constant_columns_have_no_variance():
    problem = blobs()._replace(X=np.full((400, 4), 0.1))
    assert look(Grid(problem), NAMES).variance == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_what_is_refused_is_named(make):
    problem = blobs(weighted=True)
    X, weight = problem.X.copy(), problem.weight.copy()
    X[345, 2], weight[123] = np.nan, -1.0
    bad = [
        (problem._replace(X=X), "file.h5:X: row 345, column 2 is nan"),
        (problem._replace(weight=weight), "w: row 123 is negative"),
        (problem._replace(weight=0 * weight), "w: the weights are all zero"),
    ]
    for one, sentence in bad:
        for size in (1, 3):
            with pytest.raises(DataError, match=sentence) as caught:
                run_threads(size, lambda comm, one=one: look(Grid(make(one), comm), NAMES))
            assert caught.value.on_all_ranks
    nothing = RowSelection(start=400)
    with pytest.raises(DataError, match="there are no rows"):
        look(Grid(problem, selection=nothing), NAMES)
