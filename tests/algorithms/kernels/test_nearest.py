"""Nearest centres against distances computed one by one: compiled, of the same bits everywhere, and NumPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES, SHARDS, N, dense, make_block, stacked
from scipy import sparse

from hpcml.algorithms.clustering.assignment import Plain, sums_of_all
from hpcml.algorithms.kernels import passes
from hpcml.algorithms.kernels.centers import make_panels
from hpcml.algorithms.kernels.choice import VARIABLE, compiled
from hpcml.algorithms.kernels.nearest import cluster_sums, lloyd_sums, nearest
from hpcml.data import Block

LAYOUTS = pytest.mark.parametrize("csr", [False, True], ids=["dense", "csr"])
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
needs_compiled = pytest.mark.skipif(not COMPILED, reason="the kernels were not compiled here")


def centers_of(block, k, seed=0):
    rng = np.random.default_rng(seed)
    X = block.X.toarray() if sparse.issparse(block.X) else block.X
    return X[rng.choice(N, k, replace=k > N)] + 0.3 * rng.normal(size=(k, X.shape[1]))


def with_rows(block, X):
    return replace(block, X=sparse.csr_array(X) if sparse.issparse(block.X) else X)


def squared(block, centers):
    return np.square(dense(block)[:, None] - centers.astype(np.longdouble)).sum(axis=2)


def naive_sums(block, labels, distances, k):
    X, weight = dense(block), block.weights
    rows = []
    for start, stop in pairwise(SHARDS):
        part = slice(start, stop)
        one_hot = np.eye(k)[labels[part]] * weight[part, None]
        sums = [(one_hot.T @ X[part]).ravel(), one_hot.sum(axis=0), [weight[part] @ distances[part]]]
        rows.append(np.concatenate(sums))
    return np.array(rows).astype(float)


def assert_nearest(found, block, centers, rtol=1e-12):
    away = squared(block, centers)
    np.testing.assert_array_equal(found.labels, away.argmin(axis=1))
    np.testing.assert_allclose(found.distances, away.min(axis=1).astype(float), rtol=rtol, atol=0)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("d", [1, 3, 7, 8, 9, 16, 25, 33])
def test_labels_distances_and_sums(monkeypatch, csr, dtype, d):
    for k in (1, 2, 16, 33):
        block = make_block(d, dtype, csr, weighted=k % 2 == 0)
        centers, results = centers_of(block, k), {}
        for name in NAMES:
            monkeypatch.setenv(VARIABLE, name)
            found = nearest(block, centers)
            sums = stacked(cluster_sums(block, found, k))
            assert_nearest(found, block, centers)
            expected = naive_sums(block, found.labels, found.distances, k)
            np.testing.assert_allclose(sums, expected, rtol=1e-11, atol=1e-11)
            assert stacked(lloyd_sums(block, centers)).tobytes() == sums.tobytes()
            results[name] = (*found, sums)
        for name in COMPILED:
            for one, other in zip(results[name], results[COMPILED[0]], strict=True):
                assert one.tobytes() == other.tobytes()


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_equal_distances_go_to_the_first_centre(monkeypatch, name, csr):
    monkeypatch.setenv(VARIABLE, name)
    rng = np.random.default_rng(0)
    block = with_rows(make_block(3, csr=csr), rng.integers(0, 3, (N, 3)).astype(float))
    centers = rng.integers(0, 3, (60, 3)).astype(float)
    assert_nearest(nearest(block, centers), block, centers)


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_a_rows_bits_are_its_own(monkeypatch, name, csr):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(33, csr=csr)
    centers = centers_of(block, 9)
    whole = nearest(block, centers)
    for i in range(0, N, 17):
        ends = np.array([0, 1])
        alone = nearest(Block(block.X[i : i + 1], None, None, 0, ends, ends), centers[whole.labels[i]][None])
        assert alone.distances[0] == whole.distances[i]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("far", [1e3, 1e5])
def test_single_precision_far_from_zero(monkeypatch, name, far):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(20, np.float32)
    block = replace(block, X=block.X + np.float32(far))
    centers = centers_of(block, 30)
    assert_nearest(nearest(block, centers), block, centers)


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e-140, 1e-30, 1.0, 1e30, 1e140])
def test_any_size_of_numbers_with_an_outlier(monkeypatch, name, csr, size):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(7, csr=csr)
    X = (block.X.toarray() if csr else block.X) * size
    X[5] *= 1e9
    block = with_rows(block, X)
    centers = np.concatenate([centers_of(make_block(7), 20) * size, X[5:6] * 1.1])
    assert_nearest(nearest(block, centers), block, centers)


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_is_no_number_disturbs_no_other(monkeypatch, name, csr):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(6, csr=csr)
    X, centers = block.X.toarray() if csr else block.X.copy(), centers_of(block, 20)
    X[3, 2], X[7, 1] = np.nan, np.inf
    found, clean = nearest(with_rows(block, X), centers), nearest(block, centers)
    rest = ~np.isin(np.arange(N), [3, 7])
    assert np.isnan(found.distances[3])
    assert 0 <= found.labels.min() <= found.labels.max() < 20
    for one, other in zip(found, clean, strict=True):
        np.testing.assert_array_equal(one[rest], other[rest])


def test_long_rows_in_single_precision(monkeypatch):
    rng = np.random.default_rng(4)
    centers = rng.normal(size=(17, 300))
    block = replace(make_block(300), X=rng.normal(size=(N, 300)))
    for name in NAMES:
        monkeypatch.setenv(VARIABLE, name)
        assert_nearest(nearest(block, centers), block, centers)


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_row_that_is_a_centre(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    X = sparse.random_array((N, 100), density=0.05, random_state=0, format="csr")
    X.data *= 1e6
    block = replace(make_block(100, csr=True), X=X)
    found = nearest(block, X[:50].toarray())
    np.testing.assert_array_equal(found.labels[:50], np.arange(50))
    assert found.distances[:50].max() < 1e-12


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_several_starts_and_few_partials_at_a_time(monkeypatch, name, csr):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(9, csr=csr)
    sets = np.stack([centers_of(block, 18, seed) for seed in range(3)])
    each = np.concatenate([stacked(lloyd_sums(block, centers)) for centers in sets], axis=1)
    assert stacked(sums_of_all(block, [Plain()] * len(sets), sets, len(sets))).tobytes() == each.tobytes()
    monkeypatch.setattr(passes, "_PARTIAL_BYTES", 1)
    assert stacked(sums_of_all(block, [Plain()] * len(sets), sets, len(sets))).tobytes() == each.tobytes()
    found = nearest(block, sets[0])
    assert stacked(cluster_sums(block, found, 18)).tobytes() == each[:, : 18 * 10 + 1].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_view_of_some_columns_and_no_columns(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    block = make_block(20)
    view = replace(block, X=block.X[:, 5:12])
    centers = centers_of(view, 20)
    assert_nearest(nearest(view, centers), view, centers)
    assert not nearest(replace(block, X=block.X[:, :0]), np.zeros((3, 0))).labels.any()


@needs_compiled
@pytest.mark.parametrize("wrong", ["labels", "distances", "weight", "out"])
def test_wrong_lengths_are_refused(wrong):
    block, k = make_block(3), 4
    arrays = {"weight": block.weight, "labels": np.zeros(N, np.int32), "distances": np.zeros(N)}
    arrays["out"] = np.empty((5, k * 4 + 1))

    def call():
        labels, distances, weight, out = (arrays[n] for n in ("labels", "distances", "weight", "out"))
        compiled().cluster_sums(COMPILED[0], (block.X,), SHARDS, weight, labels, distances, k, out)
        found = labels, distances, None, None
        compiled().nearest(COMPILED[0], (block.X,), SHARDS, weight, panels, found, out)

    panels = make_panels(np.zeros((k, 3)), False)
    call()
    arrays[wrong] = arrays[wrong][:-1].copy()
    with pytest.raises(ValueError, match="wrong length"):
        call()


@needs_compiled
@pytest.mark.parametrize("label", [-2, 4])
def test_labels_of_no_centre_are_refused(label):
    block, out = make_block(3), np.empty((5, 17))
    labels = np.full(N, label, np.int32)
    with pytest.raises(ValueError, match="labels"):
        compiled().cluster_sums(COMPILED[0], (block.X,), SHARDS, None, labels, np.zeros(N), 4, out)
    known = np.full(N, 4, np.int32), None, np.zeros(N + 16, np.float32), np.zeros(1, np.float32)
    panels = make_panels(np.zeros((4, 3)), False)
    with pytest.raises(ValueError, match="labels"):
        compiled().nearest(COMPILED[0], (block.X,), SHARDS, None, panels, known, out)
