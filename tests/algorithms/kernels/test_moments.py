"""Moments of columns against 80-bit sums: compiled, of one set of bits everywhere, and in NumPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES, SHARDS, WIDTHS, dense, make_block, stacked

from hpcml.algorithms.kernels import passes
from hpcml.algorithms.kernels.choice import VARIABLE, compiled
from hpcml.algorithms.kernels.moments import shard_moments, shard_squares

LAYOUTS = pytest.mark.parametrize("csr", [False, True], ids=["dense", "csr"])
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def center_of(d):
    return np.random.default_rng(d).normal(size=d)


def both(block, center):
    return stacked(shard_moments(block)), stacked(shard_squares(block, center))


def naive(block, center):
    X, weight = dense(block), block.weights.astype(np.longdouble)
    ones = np.concatenate([np.ones((len(X), 1)), X], axis=1)
    runs = [slice(start, stop) for start, stop in pairwise(SHARDS)]
    first = [weight[rows] @ ones[rows] for rows in runs]
    second = [weight[rows] @ np.square(X[rows] - center) for rows in runs]
    return np.array(first), np.array(second)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("d", WIDTHS)
def test_against_long_doubles(monkeypatch, csr, dtype, weighted, d):
    block, center = make_block(d, dtype, csr, weighted=weighted), center_of(d)
    expected, found = naive(block, center), {}
    for name in NAMES:
        monkeypatch.setenv(VARIABLE, name)
        found[name] = both(block, center)
        for one, wanted in zip(found[name], expected, strict=True):
            np.testing.assert_allclose(one, wanted.astype(float), rtol=1e-12, atol=1e-12)
    for name in COMPILED:
        for one, other in zip(found[name], found[COMPILED[0]], strict=True):
            assert one.tobytes() == other.tobytes()


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_few_partials_at_a_time(monkeypatch, name, csr):
    monkeypatch.setenv(VARIABLE, name)
    block, center = make_block(9, csr=csr), center_of(9)
    whole = both(block, center)
    monkeypatch.setattr(passes, "_PARTIAL_BYTES", 1)
    for one, other in zip(both(block, center), whole, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_columns_far_from_zero(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    for csr in (False, True):
        block, center = make_block(3, csr=csr), np.full(3, 1e9)
        X = block.X.copy()
        if csr:
            X.data[:] = 1e9
        else:
            X[:] = 1e9
        found = stacked(shard_squares(replace(block, X=X), center))
        expected = naive(replace(block, X=X), center)[1]
        np.testing.assert_allclose(found, expected.astype(float), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_of_some_columns(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    block, center = make_block(20), center_of(7)
    view = replace(block, X=block.X[:, 5:12])
    copied = replace(block, X=view.X.copy())
    for one, other in zip(both(view, center), both(copied, center), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not COMPILED, reason="the kernels were not compiled here")
@pytest.mark.parametrize("wrong", ["weight", "center", "out"])
def test_wrong_lengths_are_refused(wrong):
    block = make_block(3)
    arrays = {"weight": block.weight, "center": np.zeros(3), "out": np.empty((5, 3))}
    arguments = lambda: (COMPILED[0], (block.X,), arrays["weight"], SHARDS, arrays["center"], arrays["out"])  # noqa: E731
    compiled().squares(*arguments())
    arrays[wrong] = arrays[wrong][:-1].copy()
    with pytest.raises(ValueError, match="wrong length"):
        compiled().squares(*arguments())
