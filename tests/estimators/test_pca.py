"""PCA, TruncatedSVD and IncrementalPCA against scikit-learn's, and over ranks."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn import decomposition as twins
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.estimators import PCA, IncrementalPCA, LogisticRegression, TruncatedSVD

ALL = [
    PCA(),
    PCA(2, svd_solver="randomized"),
    PCA(2, whiten=True, svd_solver="tsqr"),
    TruncatedSVD(),
    TruncatedSVD(algorithm="randomized"),
    IncrementalPCA(),
    IncrementalPCA(2, batch_size=10),
]
each = pytest.mark.parametrize("estimator", ALL, ids=str)
DIGITS = load_digits().data
IRIS = load_iris().data
SAME = ("explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_", "noise_variance_")


@parametrize_with_checks(ALL)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def same_components(a, b, tolerance):
    return np.abs(np.abs((a * b).sum(axis=1)) - 1).max() < tolerance


def near(a, b, tolerance):
    """Tell whether arrays differ by at most `tolerance`: pytest's own comparison is slow on large ones."""
    return np.allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_components", [5, 0.8, "mle", None])
@pytest.mark.parametrize("solver", ["gram", "full", "auto", "covariance_eigh"])
def test_pca_is_scikit_learns(n_components, solver):
    X = IRIS if n_components is None else DIGITS[:, DIGITS.any(axis=0)]
    ours = PCA(n_components, svd_solver=solver).fit(X)
    theirs = twins.PCA(n_components, svd_solver="full").fit(X)
    assert ours.n_components_ == theirs.n_components_
    for name in SAME:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9), name
    assert same_components(ours.components_, theirs.components_, 1e-8)
    signs = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    assert near(ours.transform(X), theirs.transform(X) * signs, 1e-5)
    back = theirs.inverse_transform(theirs.transform(X))
    assert near(ours.inverse_transform(ours.transform(X)), back, 1e-5)
    assert near(ours.get_covariance(), theirs.get_covariance(), 1e-9)
    assert near(ours.get_precision() @ ours.get_covariance(), np.eye(X.shape[1]), 1e-6)
    assert near(ours.score_samples(X) / theirs.score_samples(X), 1.0, 1e-6)
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-9)


def test_randomized_pca_is_scikit_learns():
    ours = PCA(6, svd_solver="randomized", iterated_power=7).fit(DIGITS)
    theirs = twins.PCA(6, svd_solver="full").fit(DIGITS)
    for name in SAME:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6), name
    assert same_components(ours.components_, theirs.components_, 1e-5)
    assert (ours.solver_, ours.n_iter_) == ("randomized", 8)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_truncated_svd_is_scikit_learns(make):
    X = make(DIGITS)
    for algorithm in ("auto", "randomized", "tsqr"):
        ours = TruncatedSVD(4, algorithm=algorithm).fit(X)
        theirs = twins.TruncatedSVD(4, algorithm="arpack").fit(X)
        for name in SAME[:3]:
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-7), name
        assert same_components(ours.components_, theirs.components_, 1e-8)
        assert near(np.abs(ours.transform(X)), np.abs(theirs.transform(X)), 1e-3)
        assert ours.inverse_transform(ours.transform(X)).shape == X.shape
    assert ours.get_feature_names_out().tolist() == [f"truncatedsvd{i}" for i in range(4)]


@pytest.mark.parametrize("n_components", [None, 8])
def test_incremental_pca_is_scikit_learns(n_components):
    X = DIGITS[:, DIGITS.any(axis=0)]
    ours = IncrementalPCA(n_components, batch_size=170).fit(X)
    theirs = twins.IncrementalPCA(n_components, batch_size=170).fit(X)
    again = IncrementalPCA(n_components)
    for start in range(0, len(X), 170):
        again.partial_fit(X[start : start + 170])
    for name in (*SAME, "var_"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-8), name
        assert np.array_equal(getattr(again, name), getattr(ours, name)), name
    assert same_components(ours.components_, theirs.components_, 1e-7)
    assert ours.n_samples_seen_ == again.n_samples_seen_ == len(X)
    assert near(ours.get_covariance(), theirs.get_covariance(), 1e-8)


def test_all_rows_as_one_batch_lose_nothing():
    whole, exact = IncrementalPCA(8).fit(DIGITS), PCA(8, svd_solver="tsqr").fit(DIGITS)
    assert whole.singular_values_ == pytest.approx(exact.singular_values_, rel=1e-12)
    first, second = DIGITS[:900], DIGITS[900:]
    parts = IncrementalPCA().partial_fit(first).partial_fit(second)
    assert parts.singular_values_[:8] == pytest.approx(exact.singular_values_, rel=1e-12)
    assert whole.partial_fit(first).n_samples_seen_ == len(DIGITS) + 900
    assert whole.fit(first).n_samples_seen_ == 900


def attributes(model):
    names = sorted(name for name in vars(model) if name.endswith("_") and name != "n_features_in_")
    return hashlib.sha256(b"".join(np.asarray(getattr(model, name)).tobytes() for name in names)).hexdigest()


@each
def test_the_same_bits_on_any_number_of_ranks(estimator):
    X = np.tile(DIGITS, (2, 1)) + np.random.default_rng(0).normal(size=(2 * len(DIGITS), 64))
    if hasattr(estimator, "batch_size"):
        estimator = clone(estimator).set_params(batch_size=1000)

    def program(comm, borders):
        mine = X[slice(*borders[comm.rank : comm.rank + 2])]
        model = clone(estimator).set_params(comm=comm).fit(mine)
        scored = model.score(mine) if hasattr(model, "score") else 0.0
        assert model.transform(mine).shape == (len(mine), len(model.components_))
        return attributes(model), scored

    n, found = len(X), set()
    for borders in ([0, n], [0, 700, n], [0, 2000, 2000, n], [0, 1, 2, 2500, 3000, n]):
        found |= set(run_threads(len(borders) - 1, lambda comm, cut=borders: program(comm, cut)))
    assert len(found) == 1


@each
def test_a_pickle_and_a_data_set(estimator):
    comm = SerialCommunicator()
    estimator = clone(estimator).set_params(comm=comm)
    if hasattr(estimator, "batch_size"):
        with pytest.raises(SpecError, match="batch_size is for arrays"):
            clone(estimator).set_params(batch_size=5).fit(ArrayDataset(IRIS, comm=comm))
        estimator.set_params(batch_size=None)
    model = estimator.fit(IRIS)
    again = pickle.loads(pickle.dumps(model))
    assert again.comm is None
    assert np.array_equal(again.transform(IRIS), model.transform(IRIS))
    data = ArrayDataset(IRIS, comm=comm)
    assert attributes(clone(model).fit(data)) == attributes(model)
    assert near(model.transform(data), model.transform(IRIS), 1e-10)
    with pytest.raises(DataError, match="has 3 features"):
        model.transform(ArrayDataset(IRIS[:, :3], comm=comm))


def test_weights_of_a_data_set_count():
    weight = np.arange(len(IRIS)) % 3
    data = ArrayDataset(IRIS, None, weight, comm=SerialCommunicator())
    repeated = PCA(2).fit(np.repeat(IRIS, weight, axis=0))
    assert PCA(2).fit(data).explained_variance_ == pytest.approx(repeated.explained_variance_, rel=1e-12)


def test_nan_is_named_by_row():
    X = IRIS.copy()
    X[77, 2] = np.nan
    for estimator in ALL:
        with pytest.raises(ValueError, match="NaN"):
            clone(estimator).fit(X)
        if getattr(estimator, "batch_size", None) is None:
            with pytest.raises(DataError, match="X: row 77, column 2 is nan"):
                clone(estimator).fit(ArrayDataset(X, comm=SerialCommunicator()))


def test_whitened_coordinates_have_variance_one():
    for model in (PCA(5, whiten=True), IncrementalPCA(5, whiten=True)):
        rows = model.fit_transform(DIGITS)
        assert np.cov(rows.T) == pytest.approx(np.eye(5), abs=1e-10)
        expected = twins.PCA(5).fit(DIGITS)
        back = expected.inverse_transform(expected.transform(DIGITS))
        assert near(model.inverse_transform(rows), back, 1e-7)


def test_lost_digits_are_a_warning_and_auto_has_none(recwarn):
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.normal(size=(500, 6)))[0] * np.logspace(0, -9, 6)
    with pytest.warns(UserWarning, match=r"0 digits left.*svd_solver='tsqr'"):
        PCA(6, svd_solver="gram").fit(X)
    recwarn.clear()
    model = PCA(6).fit(X)
    assert not recwarn
    assert model.solver_ == "tsqr"
    assert "digits" in model.solver_reason_


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (PCA(0), "n_components"),
        (PCA(1.5), "n_components"),
        (PCA(5), "n_components=5 must be from 1 to 4"),
        (PCA(svd_solver="arpack"), "svd_solver"),
        (PCA(0.5, svd_solver="randomized"), "needs all components"),
        (TruncatedSVD(9), "n_components=9 must be from 1 to 4"),
        (IncrementalPCA(5), "n_components=5 must be at most 4"),
        (IncrementalPCA(batch_size=0), "batch_size"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(estimator, sentence):
    with pytest.raises((SpecError, DataError), match=sentence):
        estimator.fit(IRIS)


def test_ranks_that_learnt_apart_are_refused():
    def program(comm):
        model = IncrementalPCA().partial_fit(IRIS[comm.rank :]).set_params(comm=comm)
        with pytest.raises(SpecError, match="ranks differ in components so far"):
            model.partial_fit(IRIS)

    run_threads(2, program)


def test_the_twin_and_a_pipeline():
    X, y = load_digits(return_X_y=True)
    for model in (PCA(9, whiten=True), TruncatedSVD(9)):
        twin = model.fit(X).to_sklearn()
        assert np.array_equal(twin.transform(X), model.transform(X))
    steps = make_pipeline(PCA(20), LogisticRegression())
    assert steps.fit(X, y > 4).score(X, y > 4) > 0.85


def test_ranks_of_an_mpi_job_agree(spmd):
    done = spmd(
        3,
        """
        import numpy as np
        from hpcml.estimators import PCA
        from hpcml.collectives import world
        comm = world()
        X = np.random.default_rng(0).normal(size=(3000, 30)) * np.logspace(0, -3, 30)
        mine = X[[0, 1400, 1400][comm.rank] : [1400, 1400, 3000][comm.rank]]
        for solver in ("gram", "tsqr", "randomized"):
            model = PCA(4, svd_solver=solver, comm="world").fit(mine)
            alone = PCA(4, svd_solver=solver).fit(X) if comm.rank == 1 else model
            assert np.array_equal(model.components_, alone.components_)
            assert np.array_equal(model.singular_values_, alone.singular_values_)
        """,
    )
    assert done.returncode == 0, done.output
