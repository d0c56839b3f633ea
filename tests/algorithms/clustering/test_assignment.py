"""Any way to nearest centres gives a fit the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import blobs
from algorithms.problems import Grid, as_csr

from hpcml.algorithms.clustering.assignment import Plain
from hpcml.algorithms.clustering.bounds import Bounds
from hpcml.algorithms.clustering.lloyd import Lloyd, Loop, run_lloyd
from hpcml.algorithms.kernels import passes
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import run_threads


class EveryOther:
    def keeps(self, rows):
        return rows % 2 == 0


def starts_of(problem, r, k):
    rows = np.random.default_rng(3).choice(len(problem.X) // 2, (r, k), replace=False)
    return problem.X[2 * rows]


def bits(result):
    return result.start, *(part.tobytes() for part in result.loop.runs[:-1])


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("small", [False, True], ids=["whole blocks", "a shard at a time"])
@pytest.mark.parametrize("selection", [None, EveryOther()], ids=["all rows", "every other row"])
def test_bounds_change_no_bit(make, small, selection, monkeypatch):
    if small:
        monkeypatch.setattr(passes, "_PARTIAL_BYTES", 1)
    problem = blobs(250, spread=2.5, weighted=True)
    starts = starts_of(problem, 2, 5)

    def fitted(comm, way):
        data = Grid(make(problem), comm, selection=selection)
        return bits(run_lloyd(data, Lloyd(make_assignment=way), starts))

    for size in (1, 3):
        found = [run_threads(size, lambda comm, way=way: fitted(comm, way)) for way in (Plain, Bounds)]
        assert found[0] == found[1]


def test_bounds_are_made_anew_when_a_run_goes_on():
    problem = blobs(spread=2.5)
    starts, method = starts_of(problem, 2, 20), Lloyd(make_assignment=Bounds)
    trees = []
    whole = run_lloyd(Grid(problem), method, starts, callback=lambda at: trees.append(to_tree(at.loop)))
    for tree in trees:
        assert bits(run_lloyd(Grid(problem), method, loop=from_tree(Loop, tree))) == bits(whole)
