"""Rows of the least keys, against a sort of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import blobs
from algorithms.problems import SERIAL, Grid, as_csr

from hpcml.algorithms.clustering.least_rows import LeastRows, least_rows
from hpcml.collectives import run_threads
from hpcml.data import ArrayDataset


def keys_of(all_keys):
    return lambda block: all_keys[block.index]


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("n", [1, 7, 150, 1000])
def test_as_a_sort_finds_them(n, make):
    problem = blobs(150, weighted=True)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 20, 150).astype(float)  # many are equal
    keys[rng.random(150) < 0.2] = np.inf
    order = np.argsort(keys, kind="stable")[: min(n, int(np.isfinite(keys).sum()))]
    for size in (1, 2, 3, 8):  # 5 shards

        def program(comm):
            return least_rows(Grid(make(problem), comm), n, [keys_of(keys), keys_of(-keys)])

        for found in run_threads(size, program):
            assert found[0].X.tobytes() == (problem.X[order] + 0.0).tobytes()
            assert found[0].weight.tolist() == problem.weight[order].tolist()
            assert len(found[1].X) == min(n, 150)


def test_negative_zeros_are_zeros_on_any_number_of_ranks():
    problem = blobs(100)
    X = np.where(problem.X > 0, -0.0, problem.X)
    keys = np.arange(100.0)

    def program(comm):
        return least_rows(Grid(problem._replace(X=X), comm), 20, [keys_of(keys)])[0].X.tobytes()

    assert {one for size in (2, 3) for one in run_threads(size, program)} == {program(SERIAL)}


def test_no_rows_at_all():
    problem = blobs(64)
    found = run_threads(2, lambda c: least_rows(Grid(problem, c), 3, [keys_of(np.full(64, np.inf))]))
    assert [one[0].X.shape for one in found] == [(0, 4)] * 2


def test_equal_keys_do_not_bring_the_whole_block():
    rows = LeastRows(3, 1)
    taken = []

    class Spy(np.ndarray):
        def __getitem__(self, at):
            taken.append(len(np.asarray(at)))
            return np.asarray(self)[at]

    block = next(ArrayDataset(np.arange(50.0)[:, None], comm=SERIAL).blocks())
    object.__setattr__(block, "X", block.X.view(Spy))
    rows.see(block, np.zeros(50))
    assert taken == [3]
    assert rows.gathered(SERIAL).X.ravel().tolist() == [0.0, 1.0, 2.0]
