"""KMeans as scikit-learn's users know it, over the rows of all ranks."""

from __future__ import annotations

import hashlib
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from algorithms.blobs import blobs, squared
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans as Twin
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import KMeans

REPETITION = "rows are drawn by their numbers, which repetition and removal change"
NOT_EQUIVALENT = {
    f"check_sample_weight_equivalence_on_{kind}_data": REPETITION for kind in ("dense", "sparse")
}
ALL = [KMeans(2), KMeans(2, init="random", n_init=3)]


@parametrize_with_checks(ALL, expected_failed_checks=lambda estimator: NOT_EQUIVALENT)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def digest(model):
    return hashlib.sha256(model.cluster_centers_.tobytes()).hexdigest(), model.inertia_, model.n_iter_


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_scikit_learns_answer_from_the_same_start(make):
    X, _, weight = blobs(spread=2.0, weighted=True)
    settings = {"init": X[:5], "n_init": 1}
    model = KMeans(5, **settings).fit(make(X), sample_weight=weight)
    twin = Twin(5, **settings).fit(make(X), sample_weight=weight)
    np.testing.assert_allclose(model.cluster_centers_, twin.cluster_centers_, rtol=1e-10)
    assert model.labels_.tolist() == twin.labels_.tolist()
    assert model.predict(X).tolist() == twin.predict(X).tolist()
    assert model.inertia_ == pytest.approx(twin.inertia_, rel=1e-12)
    assert model.n_iter_ == twin.n_iter_
    np.testing.assert_allclose(model.transform(X), twin.transform(X), rtol=1e-9)
    assert model.score(X, sample_weight=weight) == -model.inertia_
    assert model.score(X) == pytest.approx(twin.score(X), rel=1e-12)
    assert model.to_sklearn().predict(X).tolist() == model.labels_.tolist()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_same_bits_on_any_number_of_ranks(make):
    X, _, weight = blobs(9000, d=20, spread=2.0, weighted=True)
    estimator = KMeans(7, n_init=2)
    serial = clone(estimator).fit(make(X), sample_weight=weight)
    for size in (1, 2, 3, 5):
        borders = np.sort(np.random.default_rng(size).integers(0, len(X), size - 1))
        borders[1:2] = borders[:1]  # a rank without rows
        cuts = [0, *borders.tolist(), len(X)]

        def program(comm, cuts=cuts):
            rows = slice(*cuts[comm.rank : comm.rank + 2])
            model = clone(estimator).set_params(comm=comm).fit(make(X)[rows], sample_weight=weight[rows])
            assert model.labels_.tolist() == serial.labels_[rows].tolist()
            return digest(model), model.score(make(X)[rows], sample_weight=weight[rows])

        assert run_threads(size, program) == [(digest(serial), -serial.inertia_)] * size


def test_float32_and_more_ranks_than_shards():
    X = (blobs(100).X + 1e4).astype(np.float32)
    serial = KMeans(3).fit(X)

    def program(comm):
        model = KMeans(3, comm=comm).fit(X if comm.rank == 1 else X[:0])
        return digest(model), model.labels_.size

    found = run_threads(4, program)
    assert [one[0] for one in found] == [digest(serial)] * 4
    assert [one[1] for one in found] == [0, 100, 0, 0]
    exact = float(squared(X, serial.cluster_centers_).min(axis=1).sum())
    assert serial.inertia_ == pytest.approx(exact, rel=1e-12)
    assert serial.labels_.dtype == np.int32


def test_a_data_set_brings_rows_and_weights():
    X, _, weight = blobs(weighted=True)
    comm = SerialCommunicator()
    data = ArrayDataset(X, None, weight, comm=comm)
    model = KMeans(4).fit(data)
    assert digest(model) == digest(KMeans(4).fit(X, sample_weight=weight))
    assert model.labels_.tolist() == model.predict(data).tolist() == model.predict(X).tolist()
    assert np.array_equal(model.transform(data), model.transform(X))
    assert model.score(data) == -model.inertia_
    with pytest.raises(SpecError, match="its own sample_weight"):
        KMeans(4).fit(data, sample_weight=weight)
    with pytest.raises(DataError, match="has 3 features"):
        model.predict(ArrayDataset(X[:, :3], comm=comm))
    X = X.copy()
    X[123, 1] = np.inf
    with pytest.raises(DataError, match="row 123, column 1 is inf"):
        KMeans(4).fit(ArrayDataset(X, comm=comm))


def test_seeds_and_starts():
    X = blobs(600, k=12, spread=2.0).X
    runs = {digest(KMeans(12, random_state=seed).fit(X)) for seed in (0, 1, 2)}
    assert len(runs) == 3
    assert digest(KMeans(12, random_state=None).fit(X)) in runs
    one, many = (KMeans(12, n_init=n).fit(X).inertia_ for n in ("auto", 8))
    assert many < one
    rough, fine = (
        KMeans(12, init_rounds=rounds, oversampling_factor=factor, max_iter=300).fit(X)
        for rounds, factor in ((1, 0.5), (5, 4.0))
    )
    assert digest(rough) != digest(fine)


def test_warnings_come_once():
    X = blobs(spread=3.0).X

    def program(comm):
        rows = slice(200 * comm.rank, 200 * (comm.rank + 1))
        cut = KMeans(5, max_iter=1, comm=comm).fit(X[rows])
        few = KMeans(3, comm=comm).fit(np.ones((10, 2)))
        return cut.converged_, cut.reason_, few.inertia_

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run_threads(2, program)
    assert found == [(False, "max_iter was reached", 0.0)] * 2
    assert [warning.category for warning in caught] == [ConvergenceWarning] * 2
    texts = [str(warning.message) for warning in caught]
    assert "did not converge in 1 iterations" in texts[0]
    assert "1 distinct clusters were found, fewer than n_clusters=3" in texts[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_clusters", 0), ("init", "k-means"), ("n_init", 0), ("tol", -1.0), ("max_iter", 0), ("comm", "every"),
     ("init_rounds", 0), ("oversampling_factor", 0.0), ("algorithm", "elkan"), ("random_state", -1)],
)  # fmt: skip
def test_wrong_parameters_are_named(name, value):
    with pytest.raises(SpecError, match=name):
        KMeans(**{"n_clusters": 2, name: value}).fit(np.eye(3))


def test_what_ranks_must_agree_on():
    X = blobs(60).X
    with pytest.raises(SpecError, match="ranks differ in init"):
        run_threads(2, lambda comm: KMeans(2, init=X[comm.rank :][:2], comm=comm).fit(X))
    with pytest.raises(SpecError, match="ranks differ in n_clusters"):
        run_threads(2, lambda comm: KMeans(2 + comm.rank, comm=comm).fit(X))
    with pytest.raises(SpecError, match=r"the shape \(2, 4\), not \(3, 4\)"):
        run_threads(2, lambda comm: KMeans(2, init=X[:3], comm=comm).fit(X))
    with pytest.raises(DataError, match="n_clusters=150 is more than there are rows"):
        run_threads(2, lambda comm: KMeans(150, comm=comm).fit(X))


def test_tools_of_scikit_learn():
    X = pd.DataFrame(blobs().X, columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), KMeans(3).set_output(transform="pandas"))
    distances = pipeline.fit_transform(X)
    assert list(distances.columns) == ["kmeans0", "kmeans1", "kmeans2"]
    model = KMeans(3).fit(X)
    assert model.feature_names_in_.tolist() == list("abcd")
    again = pickle.loads(pickle.dumps(model.set_params(comm=SerialCommunicator())))
    assert again.comm is None
    assert again.predict(X).tolist() == model.labels_.tolist()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_under_mpiexec(spmd):
    serial = KMeans(6).fit(blobs(3000, d=40).X)
    done = spmd(
        3,
        """
        import sys
        sys.path.insert(0, TESTS)
        import hashlib
        from algorithms.blobs import blobs
        from hpcml.collectives import world
        from hpcml.estimators import KMeans

        rows = slice(*([0, 100, 100, 3000][world().rank :][:2]))
        model = KMeans(6, comm="world").fit(blobs(3000, d=40).X[rows])
        bits = hashlib.sha256(model.cluster_centers_.tobytes()).hexdigest()
        print(bits, model.inertia_, flush=True)
        """.replace("TESTS", repr(__file__.rsplit("/", 2)[0])),
        check=0,
    )
    assert done.lines == [" ".join(map(str, digest(serial)[:2]))] * 3
