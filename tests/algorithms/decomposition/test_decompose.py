"""Components against LAPACK, by every method: spectra, bounds, odd shapes, and the same bits on any ranks."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest
from scipy import sparse

from hpcml.algorithms.decomposition.choice import choose
from hpcml.algorithms.decomposition.decompose import DecompositionSettings, decompose
from hpcml.algorithms.decomposition.randomized import LoopState
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError

METHODS = ("gram", "tsqr", "randomized")
each = pytest.mark.parametrize("method", METHODS)
EPS = np.finfo(float).eps


def rows(n=3000, d=24, seed=0, mean=3.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d)) + 0.1 * rng.normal(size=(n, d))
    return X + mean * rng.normal(size=d)


def with_spectrum(n, values, seed=0):
    """Rows of mean zero with these singular values; and their right vectors, as rows."""
    rng = np.random.default_rng(seed)
    U = rng.normal(size=(n, len(values)))
    U = np.linalg.qr(U - U.mean(axis=0))[0]
    V = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return U @ np.diag(values) @ V.T, V.T


def of(X, k=None, weight=None, **options):
    data = ArrayDataset(X, weight=weight, comm=SerialCommunicator())
    return decompose(data, DecompositionSettings(k, **options))


def digest(found):
    parts = [np.asarray(part).tobytes() for part in found if not isinstance(part, str)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_bounds(found, X, tolerance):
    """What the literature bounds: orthogonality, and the residual |X'X v - sigma^2 v| of each pair."""
    V, sigma = found.components, found.singular_values
    C = X - X.mean(axis=0) if found.centered else X
    norm = np.linalg.norm(C, 2)
    assert np.abs(V @ V.T - np.eye(len(V))).max() < 50 * EPS
    assert np.linalg.norm(C.T @ (C @ V.T) - V.T * np.square(sigma), axis=0).max() < tolerance * norm**2
    assert np.linalg.norm(np.linalg.norm(C @ V.T, axis=0) - sigma) < tolerance * norm


@pytest.mark.parametrize("centered", [True, False])
@each
def test_values_and_vectors_are_lapacks(method, centered):
    X = rows()
    found = of(X, 5, method=method, centered=centered)
    C = X - X.mean(axis=0) if centered else X
    _, values, vectors = np.linalg.svd(C, full_matrices=False)
    assert found.singular_values == pytest.approx(values[:5], rel=1e-12)
    tolerance = 1e-6 if method == "randomized" else 1e-11
    assert np.abs(np.abs(found.components) - np.abs(vectors[:5])).max() < tolerance
    check_bounds(found, X, 1e-9 if method == "randomized" else 1e-13)
    assert found.mean == pytest.approx(X.mean(axis=0) if centered else np.zeros(24), rel=1e-13)
    variance = (C @ found.components.T).var(axis=0, ddof=int(centered))
    assert found.explained_variance == pytest.approx(variance, rel=1e-10)
    ratio = variance / X.var(axis=0, ddof=int(centered)).sum()
    assert found.explained_variance_ratio == pytest.approx(ratio, rel=1e-10)


@each
def test_the_largest_element_of_a_component_is_positive(method):
    found = of(rows(), 4, method=method)
    largest = np.argmax(np.abs(found.components), axis=1)
    assert (found.components[np.arange(4), largest] > 0).all()


@each
def test_weights_are_repetitions(method):
    X, weight = rows(400), np.random.default_rng(1).integers(0, 4, 400).astype(float)
    X[:100] += 5.0
    found, repeated = of(X, 3, weight, method=method), of(np.repeat(X, weight.astype(int), axis=0), 3)
    assert found.singular_values == pytest.approx(repeated.singular_values, rel=1e-12)
    assert found.mean == pytest.approx(repeated.mean, rel=1e-12)
    assert found.explained_variance == pytest.approx(repeated.explained_variance, rel=1e-12)
    assert found.noise_variance == pytest.approx(repeated.noise_variance, rel=1e-10)
    assert np.abs(found.components - repeated.components).max() < 1e-6


@each
def test_csr_rows_have_the_components_of_dense_ones(method, monkeypatch):
    X = sparse.random_array((2000, 30), density=0.2, rng=3, format="csr")
    X = sparse.csr_array(X @ sparse.diags_array(np.logspace(0, -3, 30)))
    dense = of(X.toarray(), 3, centered=False)
    if method != "tsqr":
        monkeypatch.setattr(sparse.csr_array, "toarray", lambda self: pytest.fail("made dense"))
    found = of(X, 3, method=method, centered=False, n_iter=6)
    assert found.singular_values == pytest.approx(dense.singular_values, rel=1e-9)
    assert np.abs(found.components[0] - dense.components[0]).max() < 1e-7
    about_mean = of(X, 3, method=method, n_iter=6)
    monkeypatch.undo()
    C = X.toarray() - X.toarray().mean(axis=0)
    assert about_mean.singular_values == pytest.approx(np.linalg.svd(C, compute_uv=False)[:3], rel=1e-9)


@pytest.mark.parametrize("kind", ["dense", "float32", "csr", "weighted"])
@each
def test_the_same_bits_on_any_number_of_ranks(method, kind):
    X = rows(4000, 20)
    weight = np.random.default_rng(1).integers(0, 3, 4000).astype(float) if kind == "weighted" else None
    if kind == "csr":
        X = sparse.csr_array(np.where(np.abs(X) > 3, X, 0.0))
    if kind == "float32":
        X = X.astype(np.float32)
    settings = DecompositionSettings(3, method=method)

    def program(comm, borders):
        mine = slice(*borders[comm.rank : comm.rank + 2])
        weights = None if weight is None else weight[mine]
        data = ArrayDataset(X[mine], weight=weights, comm=comm)
        assert data.partition.n_shards < 19
        return digest(decompose(data, settings))

    many = list(range(0, 4001, 200))
    cuts = [[0, 4000], [0, 1, 4000], [0, 1500, 1500, 4000], [0, 900, 901, 2500, 3999, 4000], many]
    found = {one for cut in cuts for one in run_threads(len(cut) - 1, partial(program, borders=cut))}
    assert len(found) == 1


def test_a_condition_of_1e12_is_seen_by_tsqr_and_costs_gram_its_digits():
    values = np.logspace(0, -12, 13)
    X, vectors = with_spectrum(4000, values)
    found = of(X, 13, method="tsqr")
    assert found.singular_values == pytest.approx(values, rel=1e-3)
    assert np.abs(found.singular_values - values).max() < 20 * EPS
    assert np.abs(np.abs((found.components * vectors).sum(axis=1)) - 1).max() < 1e-6
    assert not found.warning
    lossy = of(X, 13, method="gram")
    assert abs(lossy.singular_values[-1] / values[-1] - 1) > 0.9
    assert "about 0 digits" in lossy.warning and "svd_solver='tsqr'" in lossy.warning
    assert not of(X, 2, method="gram").warning


def test_auto_turns_to_tsqr_where_products_lose_digits():
    X, _ = with_spectrum(2000, np.logspace(0, -9, 10))
    few, all_of_them = of(X, 2), of(X, 10)
    assert (few.method, all_of_them.method) == ("gram", "tsqr")
    assert all_of_them.singular_values[-1] == pytest.approx(1e-9, rel=1e-5)
    assert "digits" in all_of_them.reason


def test_randomized_sees_values_below_the_root_of_rounding():
    values = np.logspace(0, -10, 11)
    X, _ = with_spectrum(2000, values)
    assert of(X, 9, method="randomized").singular_values == pytest.approx(values[:9], rel=1e-3)


@each
def test_a_mean_far_from_zero_costs_no_digits(method):
    X = rows(2000, 6, mean=0.0)
    far = (X + 1e6).astype(np.float32)
    exact = far.astype(np.float64)
    values = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)
    assert of(far, 4, method=method).singular_values == pytest.approx(values[:4], rel=1e-9)
    constant_first = X.copy()
    constant_first[:600, 0] = 0.0
    constant_first[600:, 0] += 1e8
    C = constant_first - constant_first.mean(axis=0)
    found = of(constant_first, 4, method=method)
    assert found.singular_values == pytest.approx(np.linalg.svd(C, compute_uv=False)[:4], rel=1e-7)


@pytest.mark.parametrize("method", ["tsqr", "randomized", "auto"])
def test_more_components_than_rank_say_the_rank(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 8))
    assert of(X, 3, method=method).singular_values[-1] > 1
    with pytest.raises(DataError, match=r"X has rank 3 .*n_components=4 asks for more; take at most 3"):
        of(X, 4, method=method)
    with pytest.raises(DataError, match=r"X has rank 4 \("):
        of(X + 1.0, 5, method=method, centered=False)


@pytest.mark.parametrize("method", ["gram", "tsqr"])
def test_rank_deficient_rows_with_all_components(method):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(40, 6)), 9, axis=0)
    X[:, 2], X[:, 4] = 7.0, X[:, 1]
    found = of(X, method=method)
    assert found.components.shape == (6, 6)
    check_bounds(found, X, 1e-13)
    assert found.singular_values[4:].max() < 1e-6 * found.singular_values[0]
    assert np.abs(found.components[:4, 2]).max() < 1e-14


@pytest.mark.parametrize("method", ["gram", "tsqr", "auto"])
def test_fewer_rows_than_columns(method):
    X = rows(7, 20)
    found = of(X, method=method)
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    assert found.components.shape == (7, 20)
    assert found.singular_values[:6] == pytest.approx(values[:6], rel=1e-10)
    assert found.singular_values[6] == 0
    assert not found.warning
    check_bounds(found, X, 1e-13)


@each
def test_constant_rows(method):
    X = np.tile([1e8, -3.3, 0.1], (50, 1))
    found = of(X, 1, method="gram") if method == "gram" else of(X, None, method=method)
    assert (found.singular_values == 0).all()
    assert (found.explained_variance_ratio == 0).all()
    assert np.array_equal(found.mean, X[0])


def test_shapes_that_have_no_components():
    with pytest.raises(DataError, match="n_samples=1: a variance needs at least 2 rows"):
        of(np.ones((1, 3)))
    one = of(np.array([[3.0, 4.0]]), 1, centered=False)
    assert one.singular_values == pytest.approx([5.0], rel=1e-15)
    assert one.components[0] == pytest.approx([0.6, 0.8], rel=1e-15)
    with pytest.raises(DataError, match="n_components=4 must be from 1 to 3"):
        of(rows(9, 3), 4)


@each
def test_shares_and_all(method):
    X = rows()
    if method == "randomized":
        with pytest.raises(SpecError, match="needs all components"):
            of(X, 0.9, method=method)
        return
    whole = of(X, method=method)
    assert len(whole.components) == 24
    assert whole.noise_variance == 0.0
    assert whole.explained_variance_ratio.sum() == pytest.approx(1, rel=1e-12)
    shares = np.cumsum(whole.explained_variance_ratio)
    some = of(X, 0.9, method=method)
    k = len(some.components)
    assert shares[k - 1] > 0.9 >= (shares[k - 2] if k > 1 else 0)
    assert some.noise_variance == pytest.approx(whole.explained_variance[k:].mean(), rel=1e-9)


def test_the_choice_follows_from_the_shape():
    assert choose("auto", 10, 50_000, 200).name == "gram"
    assert choose("auto", 20, 10**6, 2000).name == "randomized"
    assert choose("auto", None, 10**6, 2000).name == "gram"
    assert choose("auto", 1500, 10**6, 2000).name == "gram"
    assert choose("auto", 20, 10**5, 10**5).name == "randomized"
    assert choose("full", None, 100, 10).name == "tsqr"
    assert choose("covariance_eigh", None, 100, 10).name == "gram"
    assert "columns are few" in choose("auto", 10, 50_000, 200).reason
    with pytest.raises(DataError, match="at most 4,096 columns"):
        choose("auto", None, 10**6, 5000)
    with pytest.raises(DataError, match="use svd_solver 'randomized'"):
        choose("tsqr", 5, 10**6, 5000)
    with pytest.raises(SpecError, match="no method is called 'arpack'"):
        choose("arpack", 5, 100, 10)


def test_a_run_resumes_from_any_pass_to_the_same_bits():
    data = ArrayDataset(rows(3000, 30), comm=SerialCommunicator())
    settings, states = DecompositionSettings(4, method="randomized", n_iter=3), []
    whole = decompose(data, settings, callback=states.append)
    assert [one.loop.n_iter for one in states] == [0, 1, 2, 3, 4]
    shares = [one.objective for one in states[1:]]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(whole.explained_variance_ratio.sum(), rel=1e-6)
    for one in states:
        loop = from_tree(LoopState, to_tree(one.loop))
        assert digest(decompose(data, settings, loop=loop)) == digest(whole)
    stopped = decompose(data, settings, stopped=lambda: True)
    assert stopped.timed and stopped.n_iter == 1


def test_seeds_differ_and_settled_values_end_the_passes():
    X, _ = with_spectrum(1000, np.array([8.0, 4.0, 2.0] + [1e-6] * 40))
    first, second = (of(X, 3, method="randomized", seed=seed, n_oversamples=2) for seed in (0, 1))
    assert digest(first) != digest(second)
    assert first.n_iter <= 3
    assert first.singular_values == pytest.approx(second.singular_values, rel=1e-9)
    noise = np.random.default_rng(0).normal(size=(500, 200))
    assert of(noise, 3, method="randomized").n_iter == 8
    assert of(noise, 50, method="randomized").n_iter == 5
    assert of(noise, 3, method="randomized", n_iter=0).n_iter == 1


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("method", ["gram", "tsqr", "randomized"])
def test_the_residual_is_that_of_the_eigenproblem(method, centered):
    X = np.random.default_rng(3).normal(size=(300, 12)) * np.geomspace(1, 0.3, 12) + 2.0
    found = of(X, 3, method=method, centered=centered, n_oversamples=2, n_iter=1)
    moved = X - X.mean(axis=0) if centered else X
    V, squared = found.components, np.square(found.singular_values)
    rest = np.linalg.norm(moved.T @ (moved @ V.T) - V.T * squared, axis=0) / squared[0]
    assert found.residual == pytest.approx(rest.max(), rel=1e-6, abs=1e-13)
    assert (found.residual > 1e-4) == (method == "randomized")


def test_passes_end_at_a_residual():
    X = np.random.default_rng(4).normal(size=(400, 30)) * np.geomspace(1, 0.01, 30)
    rough, fine, cut = (
        of(X, 3, method="randomized", tol=tol, max_iter=most)
        for tol, most in ((1e-2, 100), (1e-9, 100), (1e-14, 2))
    )
    assert rough.n_iter < fine.n_iter and rough.residual <= 1e-2 and fine.residual <= 1e-9
    assert (cut.n_iter, cut.end) == (3, "max_iter was reached")


@pytest.mark.parametrize("method", ["auto", "gram", "tsqr", "randomized"])
@pytest.mark.parametrize("large", [1e30, 3e38])
def test_one_enormous_row_is_the_first_component(method, large):
    X = np.random.default_rng(5).normal(size=(200, 4))
    X[7] = large
    found = of(X, 1, method=method)
    assert found.components[0] == pytest.approx(np.full(4, 0.5), rel=1e-9)
    assert found.explained_variance[0] == pytest.approx(4 * large * large / 200, rel=1e-9)


@pytest.mark.parametrize("method", ["auto", "gram", "tsqr", "randomized"])
@pytest.mark.parametrize("centered", [True, False])
def test_squares_that_overflow_are_refused(method, centered):
    X = np.random.default_rng(5).normal(size=(200, 4)) * 1e200
    with pytest.raises(DataError, match="so large that sums of their squares"):
        of(X, 1, method=method, centered=centered)
