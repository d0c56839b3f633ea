"""Lloyd's iteration against scikit-learn, and the same bits however it is run."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import Passes, blobs, plain_inertia, squared
from algorithms.problems import SERIAL, Grid, Problem, as_csr
from sklearn.cluster import KMeans

from hpcml.algorithms.clustering.lloyd import Lloyd, Loop, run_lloyd
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import CountingCommunicator, run_threads

K = 5


def starts_of(problem, r=1, k=K, seed=1):
    rng = np.random.default_rng(seed)
    rows = [rng.choice(len(problem.X), k, replace=False) for _ in range(r)]
    return np.asarray(problem.X, float)[np.array(rows)]


def bits(result):
    parts = [np.asarray(part).tobytes() for part in result.loop.runs[:-1]]
    return result.start, result.n_iter, result.inertia, *parts


def close_rows():
    return blobs(spread=2.5, weighted=True)


@pytest.mark.parametrize("tol", [0.0, 1e-3])
@pytest.mark.parametrize("form", ["dense", "csr", "float32", "unweighted"])
def test_scikit_learns_centres_from_the_same_start(form, tol):
    problem = blobs(spread=2.5, weighted=form != "unweighted")
    X = problem.X.astype(np.float32) if form == "float32" else problem.X
    problem = problem._replace(X=X)
    start = starts_of(problem)
    data = Grid(as_csr(problem) if form == "csr" else problem)
    result = run_lloyd(data, Lloyd(threshold=tol * X.astype(float).var(axis=0).mean()), start)
    twin = KMeans(K, init=start[0], n_init=1, tol=tol).fit(X.astype(float), sample_weight=problem.weight)
    assert result.n_iter == twin.n_iter_ > 3
    np.testing.assert_allclose(result.centers, twin.cluster_centers_, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(squared(X, result.centers).argmin(axis=1), twin.labels_)
    assert result.inertia == pytest.approx(plain_inertia(problem, result.centers), rel=1e-13)
    assert result.converged


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    problem = close_rows()
    start = starts_of(problem, r=3)
    expected = bits(run_lloyd(Grid(make(problem)), Lloyd(), start))
    for size in (1, 2, 3, 5, 20):  # 13 shards
        found = run_threads(size, lambda comm: bits(run_lloyd(Grid(make(problem), comm), Lloyd(), start)))
        assert found == [expected] * size


def test_whole_shards_may_change_places():
    problem = close_rows()
    order = np.random.default_rng(2).permutation(12)
    rows = np.concatenate([np.arange(384).reshape(12, 32)[order].ravel(), np.arange(384, 400)])
    moved = Problem(problem.X[rows], problem.y, problem.weight[rows])
    start = starts_of(problem)
    results = [run_lloyd(Grid(one), Lloyd(), start) for one in (problem, moved)]
    assert bits(results[0]) == bits(results[1])


def test_starts_together_end_as_each_alone():
    problem = close_rows()
    starts = starts_of(problem, r=4)
    together = run_lloyd(Grid(problem), Lloyd(), starts)
    alone = [run_lloyd(Grid(problem), Lloyd(), start[None]) for start in starts]
    assert [one.inertia for one in alone] == together.loop.runs.inertia.tolist()
    assert [one.n_iter for one in alone] == together.loop.runs.n_iter.tolist()
    assert len({one.n_iter for one in alone}) > 1  # they do not end together
    best = int(np.argmin([one.inertia for one in alone]))
    assert together.start == best
    assert together.centers.tobytes() == alone[best].centers.tobytes()
    assert together.sizes.tobytes() == alone[best].sizes.tobytes()


def test_of_equal_starts_the_first_is_kept():
    start = starts_of(close_rows())
    assert run_lloyd(Grid(close_rows()), Lloyd(), np.concatenate([start, start])).start == 0


def test_weights_repeat_rows():
    problem = close_rows()
    repeated = np.repeat(problem.X, problem.weight.astype(int), axis=0)
    start = starts_of(problem)
    weighed = run_lloyd(Grid(problem), Lloyd(), start)
    again = run_lloyd(Grid(Problem(repeated, np.zeros(len(repeated)), None)), Lloyd(), start)
    np.testing.assert_allclose(weighed.centers, again.centers, rtol=1e-12)
    assert weighed.inertia == pytest.approx(again.inertia, rel=1e-12)
    assert weighed.n_iter == again.n_iter


def test_resumed_from_any_state_on_other_ranks():
    problem = close_rows()
    trees = []
    whole = run_lloyd(
        Grid(problem), Lloyd(), starts_of(problem, r=2), callback=lambda at: trees.append(to_tree(at.loop))
    )
    assert len(trees) > 5
    for tree in trees:

        def resumed(comm, tree=tree):
            return bits(run_lloyd(Grid(problem, comm), Lloyd(), loop=from_tree(Loop, tree)))

        assert run_threads(2, resumed) == [bits(whole)] * 2


def test_one_pass_and_one_message_an_iteration():
    problem = close_rows()
    for r in (1, 3):
        comm = CountingCommunicator(SERIAL)
        data = Passes(Grid(problem, comm))
        iterations = run_lloyd(data, Lloyd(), starts_of(problem, r)).loop.n_iter
        # One evaluation at the start, which measures a window too; the last iteration moves nothing.
        assert data.passes == iterations
        assert dict(comm.calls) == {"allreduce": 1 + iterations}


@pytest.mark.parametrize("max_iter", [1, 2, 4])
def test_what_is_returned_belongs_to_the_centres(max_iter):
    problem = close_rows()
    start = starts_of(problem)
    result = run_lloyd(Grid(problem), Lloyd(max_iter), start)
    twin = KMeans(K, init=start[0], n_init=1, tol=0, max_iter=max_iter)
    twin.fit(problem.X, sample_weight=problem.weight)
    np.testing.assert_allclose(result.centers, twin.cluster_centers_, rtol=1e-10)
    assert result.inertia == pytest.approx(plain_inertia(problem, result.centers), rel=1e-13)
    labels = squared(problem.X, result.centers).argmin(axis=1)
    assert result.sizes.tolist() == np.bincount(labels, problem.weight).tolist()
    assert (result.n_iter, result.converged, result.reason) == (max_iter, False, "max_iter was reached")


def test_why_it_ends():
    problem = close_rows()
    start = starts_of(problem)
    done = run_lloyd(Grid(problem), Lloyd(), start)
    assert (done.reason, done.timed) == ("no row changed its centre", False)
    assert (done.centers == done.loop.runs.following[0]).all()
    near = run_lloyd(Grid(problem), Lloyd(threshold=0.1), start)
    assert near.converged and near.n_iter < done.n_iter and "tol allows 0.1" in near.reason
    assert 0 < near.loop.runs.shift[0] <= 0.1
    ballot = Ballot(lambda: (1,))
    late = run_lloyd(Grid(problem), Lloyd(stopped=lambda: ballot.result == (1,)), start, ballot=ballot)
    assert (late.n_iter, late.timed, late.reason) == (1, True, "the time limit was reached")


def test_the_inertia_never_rises():
    seen = []
    run_lloyd(Grid(close_rows()), Lloyd(), starts_of(close_rows()), callback=seen.append)
    values = [at.objective for at in seen]
    assert values == sorted(values, reverse=True)
    assert [at.loop.n_iter for at in seen] == list(range(len(seen)))
    assert [at.n_active for at in seen] == [1] * (len(seen) - 1) + [0]


def test_one_centre_is_the_mean():
    problem = close_rows()
    result = run_lloyd(Grid(problem), Lloyd(), starts_of(problem, k=1))
    np.testing.assert_allclose(result.centers[0], np.average(problem.X, axis=0, weights=problem.weight))
    assert result.converged


def test_a_mean_far_from_zero_costs_no_digits():
    problem = blobs(spread=0.5)
    X = (problem.X + 1e4).astype(np.float32)
    start = starts_of(problem._replace(X=X))
    single = run_lloyd(Grid(problem._replace(X=X)), Lloyd(), start)
    double = X.astype(float) - 1e4  # exact
    shifted = run_lloyd(Grid(problem._replace(X=double)), Lloyd(), start - 1e4)
    np.testing.assert_allclose(single.centers - 1e4, shifted.centers, atol=1e-11)
    assert single.inertia == pytest.approx(shifted.inertia, rel=1e-9)


def test_one_far_outlier_and_columns_that_are_constant():
    problem = blobs()
    X = np.column_stack([problem.X, np.full(400, 3.0)])
    X[17] = 1e9
    start = starts_of(problem._replace(X=X))
    start[0, 0] = X[17]
    result = run_lloyd(Grid(problem._replace(X=X)), Lloyd(), start)
    assert result.converged
    assert result.sizes[0] == 1
    assert result.inertia == pytest.approx(plain_inertia(problem._replace(X=X), result.centers), rel=1e-12)
    np.testing.assert_allclose(result.centers[1:, -1], 3.0, rtol=1e-15)
