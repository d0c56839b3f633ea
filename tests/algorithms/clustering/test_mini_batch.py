"""Mini-batch k-means: scikit-learn's step, the same bits on any number of ranks, resumed or not."""

from __future__ import annotations

import hashlib
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import small
from algorithms.problems import SERIAL, Grid, Problem, as_csr
from sklearn.cluster import KMeans, MiniBatchKMeans

from hpcml.algorithms.batches import make_batches
from hpcml.algorithms.clustering import mini_batch
from hpcml.algorithms.clustering.lloyd import Lloyd, run_lloyd
from hpcml.algorithms.clustering.mini_batch import (
    MiniBatch,
    run_mini_batch,
    start_mini_batch,
    whole_batch,
)
from hpcml.algorithms.clustering.reassignment import starved
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import run_threads
from hpcml.collectives.counting import CountingCommunicator
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table

K = 5


def run(data, method, centers, threshold=0.0, **options):
    return run_mini_batch(data, method, start_mini_batch(centers, threshold), **options)


def blobs(n=700, d=4, weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    centers = 6 * rng.normal(size=(K, d))
    X = centers[rng.integers(0, K, n)] + rng.normal(size=(n, d))
    weight = rng.integers(0, 4, n).astype(float) if weighted else None
    return Problem(X, np.zeros(n), weight)


def bits(state):
    parts = [np.asarray(part).tobytes() for part in state]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_step_is_scikit_learns():
    problem = blobs(weighted=True)
    centers = problem.X[:K] + 0.1
    twin = MiniBatchKMeans(K, init=centers, reassignment_ratio=0.0, n_init=1)
    state, method = start_mini_batch(centers), MiniBatch(reassignment_ratio=0.0)
    for seed in range(4):
        problem = blobs(300, weighted=True, seed=seed)
        twin.partial_fit(problem.X, sample_weight=problem.weight)
        state = method.step(whole_batch(Grid(problem)), state)
        np.testing.assert_allclose(state.centers, twin.cluster_centers_, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state.counts, twin._counts, rtol=1e-15)


def test_a_centre_is_the_mean_of_all_that_chose_it():
    problem = blobs(weighted=True)
    state, data = start_mini_batch(np.zeros((1, 4))), Grid(problem)
    for epoch in range(2):
        for batch in make_batches(data, 60).epoch(epoch):
            state = MiniBatch().step(batch, state)
    expected = np.average(problem.X, axis=0, weights=problem.weight)
    np.testing.assert_allclose(state.centers[0], expected, rtol=1e-12, atol=1e-14)
    assert state.counts[0] == 2 * problem.weight.sum()


def test_a_walk_forgets(monkeypatch):
    monkeypatch.setattr(mini_batch, "_LEAST_MEMORY", 100)
    problem = blobs()
    result = run(Grid(problem), MiniBatch(70, 2, max_no_improvement=None), np.zeros((1, 4)))
    total, count = np.zeros(4), 0.0
    for epoch in range(2):
        for batch in make_batches(Grid(problem), 70).epoch(epoch):
            rows = np.concatenate([block.X for block in batch.blocks()])
            kept = 1 - 70 / 175  # a quarter of 700 rows
            total, count = kept * total + rows.sum(axis=0), kept * count + len(rows)
    np.testing.assert_allclose(result.centers[0], total / count, rtol=1e-12)
    assert result.loop.counts[0] == pytest.approx(count)
    assert result.sizes.tolist() == [700]
    assert (result.n_epochs, result.n_iter, result.converged) == (2, 20, False)
    assert result.reason == "max_iter was reached"


def test_one_batch_of_all_rows_is_lloyds():
    problem = blobs(6000)
    data, first = Grid(problem, shard_rows=512, block_rows=64), problem.X[:K]
    ours = run(data, MiniBatch(6000, 4, max_no_improvement=None, reassignment_ratio=0.0), first)
    assert ours.n_iter == 4
    lloyd = run_lloyd(data, Lloyd(4), first[None])
    np.testing.assert_allclose(ours.centers, lloyd.centers, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "shard_rows"),
    [(lambda p: p, 32), (lambda p: p, 700), (as_csr, 100)],
    ids=["shards", "one shard", "csr"],
)
def test_the_same_bits_on_any_number_of_ranks(make, shard_rows):
    problem = make(blobs(weighted=True))
    centers = blobs().X[:9]
    method = MiniBatch(100, 2, reassignment_ratio=0.4, seed=3)

    def program(comm):
        data = Grid(problem, comm, shard_rows)
        result = run(data, method, centers)
        return bits(result.loop), result.n_iter, result.inertia

    (alone,) = run_threads(1, program)
    for size in (2, 3, 5):
        assert run_threads(size, program) == [alone] * size


def test_streamed_as_in_memory(tmp_path):
    path = small.make_rows(tmp_path / "rows.h5", 2000)
    found = set()
    for cache in ("memory", "none"):
        table = open_table(SERIAL, [path], Columns("X", None, "w"))
        with HDF5Dataset(table, comm=SERIAL, layout=Layout(cache, **small.CUT)) as data:
            centers = next(data.blocks()).X[:K].copy()
            result = run(data, MiniBatch(200, 3, reassignment_ratio=0.5), centers)
            found.add((bits(result.loop), result.inertia))
    assert len(found) == 1


def test_resumed_from_any_batch():
    data, method = Grid(blobs()), MiniBatch(150, 3, max_no_improvement=None, reassignment_ratio=0.5)
    states = []
    whole = run(data, method, blobs().X[:8], callback=lambda told: states.append(told.loop))
    assert [state.n_iter for state in states] == list(range(1, 16))
    for state in states[::4] + states[-1:]:
        again = from_tree(type(state), to_tree(state))
        result = run_mini_batch(data, method, again)
        assert bits(result.loop) == bits(whole.loop)


def test_one_message_a_batch():
    counted = CountingCommunicator(SERIAL)
    data, calls = Grid(blobs(), counted), []
    method = MiniBatch(100, 5, max_no_improvement=None, reassignment_ratio=0.0)
    run(data, method, blobs().X[:K], callback=lambda _: calls.append(counted.calls.total()))
    assert set(np.diff(calls).tolist()) <= {1, 3}  # three where a sum misses its window
    assert np.median(np.diff(calls)) == 1


class _Wide(NamedTuple):
    """Rows near zero, a few far away, and centres of which only the first is near a row."""

    problem: Problem
    centers: np.ndarray


def wide(n=400):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 3))
    X[::40] += 100.0
    return _Wide(Problem(X, np.zeros(n)), np.array([[0.0, 0, 0], [-1e4, 0, 0], [0, -1e4, 0]]))


def test_starved_centres_move_to_rows_by_their_distance():
    problem, centers = wide()
    data = Grid(problem)
    stuck = run(data, MiniBatch(100, 3, reassignment_ratio=0.0), centers)
    assert np.abs(stuck.centers[1:]).max() == 1e4
    seeds = [run(data, MiniBatch(100, 3, seed=seed), centers) for seed in range(8)]
    assert all(np.abs(result.centers).max() < 200 for result in seeds)
    assert all((result.centers.max(axis=1) > 90).any() for result in seeds)  # far rows are likely
    assert len({bits(result.loop) for result in seeds}) == 8


def test_rows_without_weight_are_never_drawn():
    problem, centers = wide()
    weight = np.ones(400)
    weight[::40] = 0.0
    result = run(Grid(problem._replace(weight=weight)), MiniBatch(100, 3), centers)
    assert np.abs(result.centers).max() < 10


def test_more_starved_centres_than_distinct_rows():
    X = np.repeat([[0.0], [1.0], [5.0]], 40, axis=0)
    centers = np.array([[0.0], [100.0], [101.0], [102.0], [103.0]])
    result = run(Grid(Problem(X, np.zeros(120))), MiniBatch(40, 6), centers)
    assert ((result.centers >= 0) & (result.centers <= 5)).all()
    assert 5.0 in result.centers


def test_the_fullest_centre_is_not_starved():
    counts = np.array([3.0, 100.0, 0.0, 0.5])
    assert starved(counts, 0.01).tolist() == [2, 3]
    assert starved(counts, 2.0).tolist() == [2, 3, 0]
    assert starved(np.zeros(3), 0.5).size == starved(np.ones(1), 5.0).size == 0


def test_early_stops():
    data, centers = Grid(blobs(2000)), blobs(2000).X[:K]
    still = run(data, MiniBatch(100, 100, max_no_improvement=None), centers, 1e-3)
    assert still.converged and still.loop.shift <= 1e-3 and "tol" in still.reason
    flat = run(data, MiniBatch(100, 100, max_no_improvement=5), centers)
    assert flat.converged and flat.loop.n_worse == 5 and "minimum" in flat.reason
    assert flat.n_iter < 2000
    late = run(data, MiniBatch(100), centers, stopped=lambda: True)
    assert (late.n_iter, late.timed, late.converged) == (1, True, False)


def test_near_lloyd_from_the_same_start():
    problem = blobs(3000)
    far = problem.X[np.argsort(problem.X[:, 0])[300 :: 3000 // K]]
    centers = KMeans(K, init=far, n_init=1, max_iter=2).fit(problem.X[::30]).cluster_centers_
    data = Grid(problem)
    result = run(data, MiniBatch(200, 20, max_no_improvement=None, seed=1), centers)
    ours = result.inertia
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = KMeans(K, init=centers, n_init=1).fit(problem.X)
    assert ours < 1.02 * twin.inertia_
    squared = np.square(problem.X[:, None] - result.centers).sum(axis=2)
    assert ours == pytest.approx(squared.min(axis=1).sum(), rel=1e-12)
    assert result.sizes.tolist() == np.bincount(squared.argmin(axis=1), minlength=K).tolist()


def test_float32_with_a_large_mean_and_a_far_outlier():
    problem = blobs(1000)
    X = (problem.X + 1e4).astype(np.float32)
    X[0] = 1e7
    centers = X[1 : K + 1].astype(float)
    single, double = (
        run(Grid(Problem(rows, problem.y)), MiniBatch(200, 3), centers) for rows in (X, X.astype(float))
    )
    assert bits(single.loop) == bits(double.loop)


def test_batches_without_weight_or_rows():
    problem = blobs(320)
    weight = np.zeros(320)
    weight[:3] = 1.0
    data = Grid(problem._replace(weight=weight))
    assert make_batches(data, 32).n == 10
    result = run(data, MiniBatch(32, 4, max_no_improvement=None), problem.X[:3] + 0.1, 1e-30)
    assert result.n_epochs > 1  # nothing moves in a batch without weight, and that ends nothing
    np.testing.assert_allclose(result.centers, problem.X[:3], rtol=1e-12)
    assert np.isfinite(result.loop.inertia)
