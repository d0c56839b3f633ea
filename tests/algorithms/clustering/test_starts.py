"""Where k-means begins: rows of the data, the same ones on any number of ranks, and good ones."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import Passes, blobs, plain_inertia, squared
from algorithms.problems import SERIAL, Grid, Problem, as_csr
from sklearn.cluster import kmeans_plusplus

from hpcml.algorithms.clustering.draws import draws_by, masses_of
from hpcml.algorithms.clustering.least_rows import FewRows, least_rows
from hpcml.algorithms.clustering.parallel_start import candidates
from hpcml.algorithms.clustering.plus_plus import plus_plus
from hpcml.algorithms.clustering.starts import METHODS, Start, find_starts
from hpcml.collectives import CountingCommunicator, run_threads


def are_rows(centers, X):
    return bool((squared(centers, X).min(axis=1) == 0).all())


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("method", METHODS)
def test_the_same_bits_on_any_number_of_ranks(method, make):
    problem = blobs(weighted=True)
    start = Start(6, method, n_init=2)
    expected = find_starts(Grid(problem), start)
    assert expected.shape == (2, 6, 4)
    assert (expected[0] != expected[1]).any()
    assert (find_starts(Grid(problem), Start(6, method, seed=1)) != expected[:1]).any()
    for size in (1, 2, 3, 5, 20):
        found = run_threads(size, lambda comm: find_starts(Grid(make(problem), comm), start).tobytes())
        assert found == [expected.tobytes()] * size


@pytest.mark.parametrize("method", METHODS)
def test_separate_groups_are_found(method):
    problem = blobs(600, k=6, spread=0.05)
    for seed in range(5):
        centers = find_starts(Grid(problem), Start(6, method, seed=seed))[0]
        if method == "random":
            assert are_rows(centers, problem.X)
            assert len(np.unique(centers, axis=0)) == 6
        else:
            assert plain_inertia(problem, centers) < 1.5 * 600 * 4 * 0.05**2


def test_as_good_as_k_means_plus_plus():
    problem = blobs(800, k=12, spread=1.5)
    ours = [plain_inertia(problem, find_starts(Grid(problem), Start(12, seed=i))[0]) for i in range(9)]
    theirs = [plain_inertia(problem, kmeans_plusplus(problem.X, 12, random_state=i)[0]) for i in range(9)]
    assert np.median(ours) < np.median(theirs)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_weight_zero_are_never_chosen(method):
    problem = blobs(300)
    weight = np.ones(300)
    weight[::2] = 0
    X = problem.X.copy()
    X[::2] += 1e6
    for seed in range(5):
        centers = find_starts(Grid(Problem(X, problem.y, weight)), Start(20, method, 1, seed))
        assert centers.max() < 1e3


def test_rows_are_drawn_by_their_masses():
    problem = blobs(200)._replace(weight=np.repeat([1.0, 3.0], 100))
    heavy = [
        (least_rows(Grid(problem), 10, [draws_by(masses_of, seed, 0, 0)])[0].weight == 3).sum()
        for seed in range(400)
    ]
    # 7.5 of 10 on average, less the little that drawing without replacement changes.
    assert 7.2 < np.mean(heavy) < 7.6


@pytest.mark.parametrize(("rounds", "per_round"), [(1, 5), (2, 8), (3, 4)])
def test_candidates_are_rows_with_the_weight_around_them(rounds, per_round):
    problem = blobs(weighted=True)
    (rows,) = candidates(Grid(problem), [0], 0, per_round, rounds)
    assert len(rows.X) <= 1 + rounds * per_round
    assert are_rows(rows.X, problem.X)
    labels = squared(problem.X, rows.X).argmin(axis=1)
    assert rows.weight.tolist() == np.bincount(labels, problem.weight, len(rows.X)).tolist()
    assert (rows.weight > 0).all()


def test_a_far_row_is_a_candidate():
    problem = blobs()
    problem.X[77] = 1e6
    for seed in range(10):
        (rows,) = candidates(Grid(problem), [0], seed, 3, 1)
        assert (rows.X == 1e6).all(axis=1).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_init", [1, 3])
def test_passes_and_messages(method, n_init):
    comm = CountingCommunicator(SERIAL)
    data = Passes(Grid(blobs(), comm))
    find_starts(data, Start(4, method, n_init, rounds=3))
    rounds = 3 if method == "k-means||" else 0
    assert data.passes == (rounds + 2 if rounds else 1)
    assert comm.calls["alltoall"] == (rounds + 1) * n_init  # two messages each
    assert comm.calls["allreduce"] == (rounds + 1) * n_init + (2 if rounds else 0)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_distinct_rows_than_centres(method):
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], 30, axis=0)
    problem = Problem(X, np.zeros(90), None)
    for seed in range(3):
        centers = find_starts(Grid(problem), Start(5, method, seed=seed))[0]
        assert are_rows(centers, X)
        if method != "random":
            assert len(np.unique(centers, axis=0)) == 3
    few = Problem(X[:2], np.zeros(2), np.array([0.0, 1.0]))
    for size in (1, 3):
        found = run_threads(size, lambda comm: find_starts(Grid(few, comm), Start(2, method)))
        assert [one.tolist() for one in found] == [[[[0.0, 0.0], [0.0, 0.0]]]] * size


def test_plus_plus_takes_a_row_once_and_none_without_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    weight = np.repeat([0.0, 1.0], 15)
    for seed in range(20):
        centers = plus_plus(FewRows(X, weight), 15, np.random.default_rng(seed))
        assert len(np.unique(centers, axis=0)) == 15
        assert are_rows(centers, X[15:])
    doubled = FewRows(np.concatenate([X, X]), np.ones(60))
    assert len(np.unique(plus_plus(doubled, 30, rng), axis=0)) == 30
