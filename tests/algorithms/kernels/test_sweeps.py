"""Sweeps of coordinate descent against the minimum over each weight found by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES
from scipy.optimize import minimize_scalar

from hpcml.algorithms.kernels.choice import VARIABLE, compiled
from hpcml.algorithms.kernels.sweeps import swept

N = 13


def quadratic(seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(N, N + 5))
    H = A @ A.T / N
    H[3, :] = H[:, 3] = H[4, :] = H[:, 4] = 0.0  # columns without spread
    l1 = np.where(np.arange(N) % 2, 0.4, 0.0)
    lower, upper = np.full(N, -np.inf), np.full(N, np.inf)
    lower[5:8], upper[7:9] = 0.0, 0.1
    v = np.clip(rng.normal(size=N), lower, upper)
    return H, l1, lower, upper, v, rng.normal(size=N)


def naive(H, l1, lower, upper, v, slope):
    v, start, first = v.copy(), v.copy(), slope
    for j in range(N):
        if H[j, j] == 0:
            v[j] = 0.0 if l1[j] else v[j]
            continue

        def value(x, j=j):
            m = np.where(np.arange(N) == j, x, v) - start
            return first @ m + m @ H @ m / 2 + l1[j] * abs(x)

        inner = (max(lower[j], -50.0), min(upper[j], 50.0))
        found = minimize_scalar(value, bounds=inner, method="bounded", options={"xatol": 1e-10}).x
        v[j] = min([found, *(x for x in (0.0, *inner) if inner[0] <= x <= inner[1])], key=value)
    return v, first + H @ (v - start)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_each_weight_is_the_best_for_the_others(monkeypatch, name, seed):
    monkeypatch.setenv(VARIABLE, name)
    case = quadratic(seed)
    before = [part.copy() for part in case]
    for found, expected in zip(swept(*case), naive(*case), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert all((part == kept).all() for part, kept in zip(case, before, strict=True))


def test_the_same_bits_compiled_and_in_numpy(monkeypatch):
    found = set()
    for name in NAMES:
        monkeypatch.setenv(VARIABLE, name)
        H, l1, lower, upper, v, slope = quadratic()
        for _ in range(20):
            v, slope = swept(np.asfortranarray(H), l1, lower, upper, v, slope)
        found.add((v + 0.0).tobytes() + slope.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_stays_none(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    H, l1, lower, upper, v, slope = quadratic()
    slope[0] = np.nan
    assert np.isnan(swept(H, l1, lower, upper, v, slope)[0]).any()


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels for this machine")
@pytest.mark.parametrize("wrong", range(6))
def test_wrong_lengths(wrong):
    H, *vectors = quadratic()
    parts = [H, *vectors]
    parts[wrong] = parts[wrong][1:]
    with pytest.raises(ValueError, match="wrong length"):
        compiled().sweep(COMPILED[0], parts[0], tuple(parts[1:4]), *parts[4:])
