"""Passes with bounds: the bits of passes over all centres, and bounds that hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from hpcml.algorithms.clustering.bounds import Bounds, grouped, row_bytes
from hpcml.algorithms.kernels import passes
from hpcml.algorithms.kernels.centers import make_panels
from hpcml.algorithms.kernels.choice import VARIABLE, available
from hpcml.algorithms.kernels.nearest import bounded_sums, lloyd_sums, nearest
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset, run_of

NAMES = available()
LAYOUTS = pytest.mark.parametrize("csr", [False, True], ids=["dense", "csr"])


def block_of(d, k, csr=False, dtype=np.float64, n=1500, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(k, d))[rng.integers(0, k, n)] + 0.4 * rng.normal(size=(n, d))
    X = np.where(rng.random(X.shape) < 0.3, 0.0, X).astype(dtype)
    rows = sparse.csr_array(X) if csr else X
    weight = rng.integers(0, 3, n).astype(float)
    return next(ArrayDataset(rows, None, weight, comm=SerialCommunicator()).blocks())


def sums(assignment, block, centers):
    return np.concatenate(list(assignment.sums(block, centers)))


def plain(block, centers):
    return np.concatenate(list(lloyd_sums(block, centers)))


def means(partials, centers):
    k, d = centers.shape
    total = partials.sum(axis=0)
    size = total[k * d : -1, None]
    return np.where(size > 0, total[: k * d].reshape(k, d) / np.maximum(size, 1), centers)


def path(block, k, n=6):
    """Centres of Lloyd's passes, then one far away, the same again, and earlier ones."""
    rows = block.X[:k].toarray() if sparse.issparse(block.X) else block.X[:k]
    all_centers = [rows.astype(float)]
    for _ in range(n):
        all_centers.append(means(plain(block, all_centers[-1]), all_centers[-1]))
    jumped = all_centers[-1].copy()
    jumped[k // 2] += 3.0
    return [*all_centers, jumped, jumped.copy(), *all_centers[2:4]]


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("d", "k"), [(1, 3), (2, 40), (8, 16), (9, 50), (33, 17)])
def test_bits_of_plain_passes(monkeypatch, name, csr, d, k):
    if name == "numpy" and (d, k) != (9, 50):
        pytest.skip("without the extension a pass with bounds is a plain one: one case will do")
    monkeypatch.setenv(VARIABLE, name)
    for dtype in (np.float64, np.float32):
        block, bounds = block_of(d, k, csr, dtype), Bounds()
        for centers in path(block, k):
            assert sums(bounds, block, centers).tobytes() == plain(block, centers).tobytes()


def test_equal_rows_and_equal_centres():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (2000, 3)).astype(float)
    block, bounds = next(ArrayDataset(X, None, comm=SerialCommunicator()).blocks()), Bounds()
    centers = [rng.integers(0, 3, (60, 3)) + moved for moved in (0.0, 0.0, 0.5, 0.25, 0.0)]
    for each in centers:
        assert sums(bounds, block, each).tobytes() == plain(block, each).tobytes()


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e30, 1e140])
def test_any_size_of_numbers(size):
    block = block_of(4, 20)
    block, bounds = replace(block, X=block.X * size), Bounds()
    for centers in path(block, 20):
        assert sums(bounds, block, centers).tobytes() == plain(block, centers).tobytes()


def test_centres_that_come_apart():
    """The scale of the first centres, all the same, is of no use for those that follow."""
    block, bounds = block_of(5, 20), Bounds()
    block = replace(block, X=block.X * 1e12)
    for centers in (np.ones((20, 5)), *path(block, 20)):
        assert sums(bounds, block, centers).tobytes() == plain(block, centers).tobytes()


def test_runs_cut_otherwise():
    block, bounds = block_of(64, 20, n=40_000), Bounds()
    assert block.n_shards > 8
    cuts = [[0, block.n_shards], [0, 3, block.n_shards], [0, 3, block.n_shards], [0, 2, 5, block.n_shards]]
    for centers, cut in zip(path(block, 20), cuts, strict=False):
        for start, stop in pairwise(cut):
            run = run_of(block, start, stop)
            assert sums(bounds, run, centers).tobytes() == plain(run, centers).tobytes()


def test_few_partials_at_a_time(monkeypatch):
    block, bounds = block_of(64, 20, n=40_000), Bounds()
    monkeypatch.setattr(passes, "_PARTIAL_BYTES", 1)
    for centers in path(block, 20):
        assert sums(bounds, block, centers).tobytes() == plain(block, centers).tobytes()


@pytest.mark.skipif(len(NAMES) < 2, reason="the kernels were not compiled here")
@LAYOUTS
@pytest.mark.parametrize("groups", [1, 3, 32])
def test_bounds_hold_and_are_near(csr, groups):
    """Each is below the distance to every other centre of its group, and after a full pass by little."""
    block, k = block_of(6, 100, csr, np.float32), 100
    X = block.X.toarray() if csr else block.X
    all_centers = path(block, k)
    order, labels, lower, before = grouped(all_centers[0]), np.empty(len(X), np.int32), None, None
    for centers in all_centers:
        panels = make_panels(centers, csr, scale=0.5, order=order, groups=groups)
        if before is None:
            lower, moved = np.empty(len(X) * panels.n_groups, np.float32), None
        else:
            most = np.linalg.norm(centers - before, axis=1).max() * 0.5 * (1 + 1e-6)
            moved = np.full(panels.n_groups, most, np.float32)
        bounded_sums(block, panels, labels, lower, moved)
        np.testing.assert_array_equal(labels, nearest(block, centers).labels)
        true = least_of_groups(X, centers, labels, panels) * 0.5
        bounds = lower.reshape(true.shape)
        assert (bounds <= true).all()
        if before is None:
            there = np.isfinite(true)
            np.testing.assert_allclose(bounds[there], true[there], rtol=1e-3, atol=1e-3)
        before = centers


def least_of_groups(X, centers, labels, panels):
    away = np.sqrt(np.square(X[:, None].astype(float) - centers).sum(axis=2))
    away[np.arange(len(X)), labels] = np.inf
    groups = np.array_split(panels.label, np.arange(1, panels.n_groups) * 16 * panels.group_panels)
    return np.stack([away[:, group[group >= 0]].min(axis=1) for group in groups], axis=1)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 100, 1000])
def test_groups_hold_each_centre_once(k):
    order = grouped(np.random.default_rng(k).normal(size=(k, 3)))
    assert order.size == -(-k // 16) * 16
    assert sorted(order[order >= 0].tolist()) == list(range(k))


def test_bytes_of_a_row():
    for k, d in ((8, 2), (100, 2), (100, 32), (1000, 32), (1600, 50)):
        panels = make_panels(np.zeros((k, d)), False, groups=min(-(-k // 16), max(1, d // 2), 32))
        assert row_bytes(k, d) == 4 + 4 * panels.n_groups
