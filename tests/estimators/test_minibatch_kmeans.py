"""Mini-batch k-means with scikit-learn's names, over the rows of all ranks."""

from __future__ import annotations

import pickle

import harness
import numpy as np
import pytest
from scipy import sparse
from sklearn import cluster
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import GaussianRandomProjection, KMeans, MiniBatchKMeans

# A row of weight 2 is in one batch: scikit-learn says so of its own, too.
BATCHED = {
    f"check_sample_weight_equivalence_on_{kind}_data": "a weight is no repetition"
    for kind in ("dense", "sparse")
}


@parametrize_with_checks(
    [MiniBatchKMeans(), MiniBatchKMeans(3, init="random", tol=1e-3)],
    expected_failed_checks=lambda estimator: BATCHED,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def blobs(n=1500, d=20, k=6):
    X, y = make_blobs(n, d, centers=k, random_state=0)
    return X, np.random.default_rng(1).integers(0, 4, n).astype(float), y


def facts(model):
    return model.cluster_centers_.tobytes(), model.inertia_, model.n_steps_, model.reason_


def test_the_blobs_are_found():
    X, weight, y = blobs()
    model = MiniBatchKMeans(6, random_state=1).fit(X, sample_weight=weight)
    assert np.unique(np.column_stack([model.labels_, y]), axis=0).shape == (6, 2)
    assert model.inertia_ == pytest.approx(-model.score(X, sample_weight=weight), rel=1e-14)
    assert model.inertia_ < 1.05 * KMeans(6).fit(X, sample_weight=weight).inertia_
    assert np.array_equal(model.labels_, model.predict(X))
    assert np.array_equal(model.labels_, model.transform(X).argmin(axis=1))
    assert model.n_iter_ == -(-model.n_steps_ // 47)
    assert model.converged_ and "smoothed inertia" in model.reason_


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    X, weight, _ = blobs(12_000 if make is np.asarray else 1500)
    X = make(X)
    settings = {"n_clusters": 9, "max_iter": 2, "batch_size": len(weight) // 5, "reassignment_ratio": 0.5}
    alone = MiniBatchKMeans(**settings).fit(X, sample_weight=weight)
    again = clone(alone).partial_fit(X[:500]).partial_fit(X[500:], sample_weight=weight[500:])
    for size in (2, 3, 5):
        borders = np.sort(np.random.default_rng(size).integers(0, len(weight), size - 1))
        borders[-1:] = borders[:1]  # of three ranks or more one has no rows
        borders = [0, *np.sort(borders), len(weight)]

        def program(comm, borders=borders):
            mine = np.zeros(len(weight), bool)
            mine[borders[comm.rank] : borders[comm.rank + 1]] = True
            model = MiniBatchKMeans(comm=comm, **settings).fit(X[mine], sample_weight=weight[mine])
            rows = np.arange(len(weight)) < 500
            later = clone(model).partial_fit(X[mine & rows])
            later.partial_fit(X[mine & ~rows], sample_weight=weight[mine & ~rows])
            return facts(model), facts(later), model.labels_

        found = run_threads(size, program)
        assert {one[:2] for one in found} == {(facts(alone), facts(again))}
        assert np.array_equal(np.concatenate([one[2] for one in found]), alone.labels_)


def test_partial_fits_are_scikit_learns():
    X, weight, _ = blobs()
    first = X[:6] + 0.1
    ours = MiniBatchKMeans(6, init=first, reassignment_ratio=0.0)
    twin = cluster.MiniBatchKMeans(6, init=first, reassignment_ratio=0.0, n_init=1)
    for start in range(0, 1500, 300):
        rows = slice(start, start + 300)
        ours.partial_fit(X[rows], sample_weight=weight[rows])
        twin.partial_fit(X[rows], sample_weight=weight[rows])
        np.testing.assert_allclose(ours.cluster_centers_, twin.cluster_centers_, rtol=1e-10)
    assert (ours.n_steps_, ours.labels_.shape) == (twin.n_steps_, (300,))
    other = ours.to_sklearn()
    assert np.array_equal(other.predict(X), ours.predict(X))
    np.testing.assert_allclose(other.transform(X[:9]), ours.transform(X[:9]), rtol=1e-9)


def test_partial_fit_goes_on_from_a_fit_and_from_a_pickle():
    X, _, _ = blobs()
    model = MiniBatchKMeans(6).fit(X[:1000])
    again = pickle.loads(pickle.dumps(model))
    before = model.n_steps_
    assert np.array_equal(
        model.partial_fit(X[1000:]).cluster_centers_, again.partial_fit(X[1000:]).cluster_centers_
    )
    assert model.n_steps_ == before + 1
    assert np.abs(model.cluster_centers_ - clone(model).partial_fit(X[1000:]).cluster_centers_).max() > 0

    def program(comm):
        model = MiniBatchKMeans(2, init=X[:2], comm=comm).partial_fit(X[comm.rank :: 2])
        model._walk.centers[0] += comm.rank
        with pytest.raises(SpecError, match="ranks differ in centres to go on from"):
            model.partial_fit(X)

    run_threads(2, program)


def test_a_data_set_and_the_best_of_several_starts():
    X, weight, _ = blobs()
    data = ArrayDataset(X, None, weight, comm=SerialCommunicator())
    assert facts(MiniBatchKMeans(6).fit(data)) == facts(MiniBatchKMeans(6).fit(X, sample_weight=weight))
    one, best = (
        MiniBatchKMeans(6, init="random", max_iter=1, batch_size=1500, n_init=n, reassignment_ratio=0).fit(X)
        for n in (1, 12)
    )
    assert best.inertia_ < one.inertia_
    assert not hasattr(MiniBatchKMeans(6, compute_labels=False).fit(X), "labels_")


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"n_clusters": 0}, SpecError, "n_clusters"),
        ({"batch_size": 0}, SpecError, "batch_size"),
        ({"reassignment_ratio": -1}, SpecError, "reassignment_ratio"),
        ({"init": np.zeros((3, 20))}, SpecError, "centres to start from need the shape"),
        ({"n_clusters": 2000}, DataError, "more than there are rows"),
    ],
)
def test_wrong_parameters(settings, error, sentence):
    for method in ("fit", "partial_fit"):
        with pytest.raises(error, match=sentence):
            getattr(MiniBatchKMeans(**settings), method)(blobs()[0])


def test_wrong_rows():
    X, weight, _ = blobs()
    bad = X.copy()
    bad[1200, 7] = np.nan
    for fitted in (MiniBatchKMeans(2), MiniBatchKMeans(2).partial_fit(X)):
        with pytest.raises(DataError, match="row 1200, column 7 is nan"):
            fitted.partial_fit(ArrayDataset(bad, comm=SerialCommunicator()))
        with pytest.raises(DataError, match="weights are all zero"):
            fitted.partial_fit(X, sample_weight=0 * weight)
    with pytest.raises(DataError, match="row 1200, column 7 is nan"):
        MiniBatchKMeans(2).fit(ArrayDataset(bad, comm=SerialCommunicator()))
    with pytest.raises(DataError, match="5 features"):
        MiniBatchKMeans(2).partial_fit(X).partial_fit(X[:, :5])


PROGRAM = """
import numpy as np
from hpcml.collectives import world
from hpcml.estimators import GaussianRandomProjection, MiniBatchKMeans

comm = world()
X = np.load("rows.npy")
mine = X[600 * comm.rank // comm.size : 600 * (comm.rank + 1) // comm.size]
model = MiniBatchKMeans(4, max_iter=2, reassignment_ratio=0.5, comm="world").fit(mine)
Z = GaussianRandomProjection(3, comm="world").fit_transform(mine)
np.savez(f"found{comm.rank}.npz", centers=model.cluster_centers_, labels=model.labels_, Z=Z)
"""


def test_under_mpi(tmp_path):
    X = np.random.default_rng(0).normal(size=(600, 9))
    np.save(tmp_path / "rows.npy", X)
    (tmp_path / "program.py").write_text(PROGRAM)
    harness.mpirun(3, tmp_path / "program.py", check=0, cwd=tmp_path)
    parts = [np.load(tmp_path / f"found{rank}.npz") for rank in range(3)]
    model = MiniBatchKMeans(4, max_iter=2, reassignment_ratio=0.5).fit(X)
    assert all(np.array_equal(part["centers"], model.cluster_centers_) for part in parts)
    assert np.array_equal(np.concatenate([part["labels"] for part in parts]), model.labels_)
    expected = GaussianRandomProjection(3).fit_transform(X)
    assert np.array_equal(np.concatenate([part["Z"] for part in parts]), expected)
