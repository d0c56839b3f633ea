"""Losses and the penalty by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from hpcml.algorithms.losses import Logistic, Squared

Z = np.linspace(-12, 12, 97)


def derivative(f, x, h):
    """Five points; the error is O(h^4)."""
    return (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h)


@pytest.mark.parametrize("loss", [Squared(), Logistic(), Logistic(positive=-3.0)], ids=str)
@pytest.mark.parametrize("label", [1.0, 0.0, -3.0])
def test_slope_and_curvature(loss, label):
    y = np.full_like(Z, label)
    terms = loss.terms(Z, y)
    slope = derivative(lambda z: loss.terms(z, y).value, Z, 1e-3)
    curvature = derivative(lambda z: loss.terms(z, y).slope, Z, 1e-3)
    np.testing.assert_allclose(terms.slope, slope, atol=2e-10)
    np.testing.assert_allclose(terms.curvature, curvature, atol=2e-10)
    assert (terms.curvature <= loss.max_curvature).all()
    assert loss.terms(np.zeros(1), y[:1]).curvature[0] == loss.max_curvature


def test_logistic_in_plain_words():
    p = 1 / (1 + np.exp(-Z))
    for label, probability in ((1.0, p), (0.0, 1 - p)):
        terms = Logistic().terms(Z, np.full_like(Z, label))
        np.testing.assert_allclose(terms.value, -np.log(probability), rtol=1e-9)
        np.testing.assert_allclose(terms.slope, p - label, rtol=1e-9, atol=1e-16)
        np.testing.assert_allclose(terms.curvature, p * (1 - p), rtol=1e-9)


@pytest.mark.parametrize("z", [1e3, 1e300])
def test_logistic_far_out(z):
    with np.errstate(all="raise", under="ignore"):
        right = Logistic().terms(np.array([z, -z]), np.array([1.0, 0.0]))
        wrong = Logistic().terms(np.array([-z, z]), np.array([1.0, 0.0]))
    assert right.value.tolist() == right.slope.tolist() == [0.0, 0.0] or (abs(right.slope) < 1e-300).all()
    assert wrong.value.tolist() == [z, z]
    assert wrong.slope.tolist() == [-1.0, 1.0]
    assert (right.curvature < 1e-300).all()


def test_logistic_keeps_digits_of_small_losses():
    terms = Logistic().terms(np.array([40.0]), np.array([1.0]))
    np.testing.assert_allclose(terms.value, np.exp(-40.0), rtol=1e-15)
    np.testing.assert_allclose(terms.slope, -np.exp(-40.0), rtol=1e-15)
