"""The product of L-BFGS's inverse Hessian against the textbook's matrices."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES

from hpcml.algorithms.kernels.choice import VARIABLE, compiled
from hpcml.algorithms.kernels.history import inverse_product


def history(m, n, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n + 3))
    moves = rng.normal(size=(m, n))
    return moves, moves @ A @ A.T, rng.normal(size=n)


def textbook(moves, changes, gradient):
    """Nocedal and Wright 2006, equation 7.16, with whole matrices."""
    n = gradient.size
    H = np.eye(n) * (moves[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
    for s, y in zip(moves, changes, strict=True):
        V = np.eye(n) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    return H @ gradient


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 7), (3, 8), (5, 16), (10, 21), (4, 67)])
def test_it_is_the_textbooks(monkeypatch, name, m, n):
    monkeypatch.setenv(VARIABLE, name)
    moves, changes, gradient = history(m, n)
    if n == 1:
        moves, changes = moves[:1], changes[:1]
    kept = gradient.copy()
    expected = textbook(moves, changes, gradient)
    found = inverse_product(moves, changes, gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    assert (gradient == kept).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_history_it_is_the_gradient(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    gradient = np.arange(3.0)
    found = inverse_product(np.zeros((0, 3)), np.zeros((0, 3)), gradient)
    assert (found == gradient).all()
    assert found is not gradient


@pytest.mark.skipif(len(COMPILED) < 2, reason="this processor has one instruction set")
def test_the_same_bits_for_each_instruction_set(monkeypatch):
    found = set()
    for name in COMPILED:
        monkeypatch.setenv(VARIABLE, name)
        found.add(inverse_product(*history(6, 37)).tobytes())
    assert len(found) == 1


@pytest.mark.skipif(not COMPILED, reason="the extension was not built")
@pytest.mark.parametrize("wrong", range(4))
def test_the_extension_refuses_wrong_arrays(wrong):
    good = [np.ones((2, 5)), np.ones((2, 5)), np.zeros(2), np.ones(5)]
    compiled().inverse_product(COMPILED[0], *good)
    for bad in (good[wrong][..., :1].copy(), good[wrong].astype(np.float32), good[wrong][None].copy(), None):
        with pytest.raises((TypeError, ValueError)):
            compiled().inverse_product(COMPILED[0], *good[:wrong], bad, *good[wrong + 1 :])
