"""Limbs: compiled code and NumPy give the same integers, and those are the terms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hpcml.collectives import SerialCommunicator, limbs
from hpcml.collectives.limbs import LIMB, add, compiled, plain_add, plain_rounded, rounded
from hpcml.collectives.reproducible import reproducible_sum

ADDERS = [plain_add, *([compiled().add] if compiled() else [])]
N = 1300  # some tiles of columns


def terms(rows=7, n=N, seed=0):
    """Terms of all sizes, some of which do not fit a window below 2^20."""
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.normal(size=(rows, n)), rng.integers(-150, 15, (rows, n)))
    x[:, ::7] = np.rint(x[:, ::7]) + 0.5  # ties of rounding
    x[:, 1::50] = 0.0
    return x


def added(adder, *chunks, top=20):
    n = chunks[0].shape[1]
    sums, largest = np.zeros((3, n), np.int64), np.zeros(n)
    found = [adder(chunk, np.full(n, 2.0 ** (LIMB - top)), sums, largest) for chunk in chunks]
    return sums, largest, found


@pytest.mark.parametrize("adder", ADDERS)
def test_the_limbs_are_the_terms_to_the_last_bit_of_the_window(adder):
    x = np.ldexp(np.rint(terms(5, 60) * 2.0**60), -60)
    sums, largest, found = added(adder, x)
    assert found == [(0, 0)]
    scale = Fraction(2) ** (20 - LIMB)
    for j, (high, middle, low) in enumerate(sums.T.tolist()):
        total = scale * (high + Fraction(middle, 2**LIMB) + Fraction(low, 4**LIMB))
        assert total == sum(map(Fraction, x[:, j].tolist()))
    assert (largest == np.abs(x).max(axis=0) * 2.0 ** (LIMB - 20)).all()


@pytest.mark.skipif(len(ADDERS) < 2, reason="the extension was not built")
@pytest.mark.parametrize("where", [(), (np.nan,), (np.inf, 3.0), (2.0**20,), (-1e308, -np.inf), (1e300,)])
@pytest.mark.parametrize("shape", [(7, N), (1, 1), (3, 512), (2, 513), (0, 5), (4, 0)])
def test_the_same_integers(where, shape):
    x = terms(*shape)
    x.flat[: len(where)] = where[: x.size]
    expected, found = (added(adder, x, -x[:1], terms(*shape, seed=1)) for adder in ADDERS)
    assert expected[2] == found[2]
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("adder", ADDERS)
def test_what_does_not_fit_is_told_and_left_out(adder):
    x = np.array([[1.0, 2.0**20, np.nan], [2.0, 1.0, -np.inf], [4.0, -1.0, 1.0]])
    for rows, told in (
        (x, (1, 1)),
        (x[:, :2], (1, 0)),
        (x[:, ::2].copy(), (0, 1)),
        (x[:, :1].copy(), (0, 0)),
    ):
        assert added(adder, np.ascontiguousarray(rows))[2] == [told]
    sums, largest, _ = added(adder, x)
    assert sums[0].tolist() == [7 << 18, 0, 1 << 18]
    assert largest.tolist() == [2.0**20, 2.0**18, 2.0**18]


def test_without_the_extension_the_sum_is_the_same(monkeypatch):
    x = terms()
    expected = reproducible_sum(SerialCommunicator(), x)
    monkeypatch.setattr(limbs, "compiled", lambda: None)
    assert reproducible_sum(SerialCommunicator(), x).tobytes() == expected.tobytes()


def test_rows_that_do_not_lie_together():
    x = terms()
    apart, together = (added(add, part) for part in (x[:, ::2], x[:, ::2].copy()))
    assert apart[0].tobytes() == together[0].tobytes()


@pytest.mark.skipif(len(ADDERS) < 2, reason="the extension was not built")
@pytest.mark.parametrize("wrong", range(4))
def test_the_extension_refuses_wrong_arrays(wrong):
    good = [np.zeros((2, 3)), np.ones(3), np.zeros((3, 3), np.int64), np.zeros(3)]
    ADDERS[1](*good)
    for bad in (good[wrong][..., :2].copy(), good[wrong].astype(np.float32), good[wrong].ravel()[None, None]):
        with pytest.raises((TypeError, ValueError)):
            ADDERS[1](*good[:wrong], bad, *good[wrong + 1 :])


def limbs_near(size, n=400, seed=2):
    """Limbs below 2^size of any sign, as sums of many terms have, and some that cancel nearly or wholly."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**size), 2**size, (3, n))
    sums[0, ::5] = rng.integers(-2, 3, sums[0, ::5].size)
    sums[:2, ::7] = 0
    sums[:, ::11] = [[-1], [2**LIMB - 1], [2**LIMB - 1]]
    sums[:, ::13] = 0
    return sums


@pytest.mark.skipif(compiled() is None, reason="the extension was not built")
@pytest.mark.parametrize("size", [1, 38, 53, 61])
@pytest.mark.parametrize("top", [-960, -1000, 0, 200, 1024])
def test_the_same_doubles(size, top):
    sums, window = limbs_near(size), np.full(400, top)
    assert rounded(sums, window).tobytes() == plain_rounded(sums, window).tobytes()


def test_a_rounded_sum_is_the_nearest_double():
    sums = limbs_near(60)
    for limbs_of_one, found in zip(sums.T.tolist(), rounded(sums, np.full(400, 38)).tolist(), strict=True):
        high, middle, low = limbs_of_one
        exact = high + Fraction(middle, 2**LIMB) + Fraction(low, 4**LIMB)
        assert abs(Fraction(found) - exact) <= abs(exact) * Fraction(1, 2**52)


@pytest.mark.skipif(compiled() is None, reason="the extension was not built")
@pytest.mark.parametrize("wrong", range(3))
def test_rounding_refuses_wrong_arrays(wrong):
    good = [np.zeros((3, 4), np.int64), np.zeros(4, np.int64), np.zeros(4)]
    compiled().rounded(*good)
    for bad in (good[wrong][..., :2].copy(), good[wrong].astype(np.float32), good[wrong].ravel()[None, None]):
        with pytest.raises((TypeError, ValueError)):
            compiled().rounded(*good[:wrong], bad, *good[wrong + 1 :])
