"""Centres that no row is nearest to."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import blobs, plain_inertia, squared
from algorithms.problems import SERIAL, Grid, Problem, as_csr

from hpcml.algorithms.clustering.empty import refill
from hpcml.algorithms.clustering.lloyd import Lloyd, run_lloyd
from hpcml.collectives import CountingCommunicator, run_threads

FAR = 1e3


def one_group(n=100, weighted=False):
    return blobs(n, k=1, weighted=weighted)


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_they_move_to_the_farthest_rows_that_weigh(make):
    problem = one_group(weighted=True)
    centers = np.stack([problem.X.mean(axis=0), np.full(4, FAR), np.full(4, FAR)])[None]
    distances = np.where(problem.weight > 0, squared(problem.X, centers[0, :1])[:, 0], -1.0)
    farthest = problem.X[np.argsort(-distances)[:2]]
    sizes = np.array([[problem.weight.sum(), 0.0, 0.0]])
    for size in (1, 2, 3, 7):

        def program(comm):
            return refill(Grid(make(problem), comm), centers, centers + 1.0, sizes)

        for found in run_threads(size, program):
            assert found[0, 0].tolist() == (centers[0, 0] + 1).tolist()
            assert found[0, 1:].tolist() == farthest.tolist()


def test_equally_far_rows_go_by_their_numbers():
    X = np.zeros((90, 2))
    X[[70, 5, 33, 62]] = [[1, 0], [0, 1], [-1, 0], [0, -1]]
    centers = np.array([[[0.0, 0.0], [FAR, 0.0], [FAR, 1.0]]])
    sizes = np.array([[90.0, 0.0, 0.0]])
    problem = Problem(X, np.zeros(90), None)
    for size in (1, 3):
        found = run_threads(size, lambda comm: refill(Grid(problem, comm), centers, centers, sizes))
        assert [one[0, 1:].tolist() for one in found] == [X[[5, 33]].tolist()] * size


def test_rows_that_are_centres_are_left_alone():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    problem = Problem(X, np.zeros(40), None)
    start = np.array([[[0.0, 0.0], [1.0, 1.0], [7.0, 7.0], [8.0, 8.0]]])
    result = run_lloyd(Grid(problem), Lloyd(), start)
    assert result.converged
    assert result.centers.tolist() == start[0].tolist()
    assert result.sizes.tolist() == [20.0, 20.0, 0.0, 0.0]


def test_a_pass_more_only_where_one_is_empty():
    problem = one_group()
    calls = []
    for centers in (problem.X[None, :3], np.stack([problem.X[:3], problem.X[:3] + FAR])):
        comm = CountingCommunicator(SERIAL)
        sizes = (centers[..., 0] < FAR / 2).astype(float)
        refill(Grid(problem, comm), centers, centers, sizes)
        calls.append(dict(comm.calls))
    assert calls == [{}, {"alltoall": 1, "allreduce": 1}]


def test_all_centres_are_used_in_the_end():
    problem = blobs(spread=2.0, weighted=True)
    start = np.concatenate([problem.X[:2], np.full((3, 4), FAR)])[None]
    results = run_threads(3, lambda comm: run_lloyd(Grid(problem, comm), Lloyd(), start))
    assert all(result.centers.tobytes() == results[0].centers.tobytes() for result in results)
    result = results[0]
    assert result.converged
    assert (result.sizes > 0).all()
    assert result.inertia == pytest.approx(plain_inertia(problem, result.centers), rel=1e-13)
