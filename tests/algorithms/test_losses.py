"""Losses and the penalty: by finite differences, against scikit-learn's, and far out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn._loss import loss as reference
from sklearn.metrics import mean_tweedie_deviance

from hpcml.algorithms.losses import Gamma, Huber, Logistic, Poisson, Squared, SquaredHinge, Tweedie

Z = np.linspace(-12, 12, 97)
BOUNDED = [Squared(), Logistic(), Logistic(positive=-3.0), Huber(), Huber(0.5), SquaredHinge(-3.0)]
LOG_LINK = [Poisson(), Gamma(), Tweedie(1.1), Tweedie(1.5), Tweedie(1.9), Tweedie(2.5), Tweedie(3.0)]
TWINS = {
    Squared(): reference.HalfSquaredError(),
    Logistic(): reference.HalfBinomialLoss(),
    Huber(0.7): reference.HuberLoss(delta=0.7),
    Poisson(): reference.HalfPoissonLoss(),
    Gamma(): reference.HalfGammaLoss(),
    **{Tweedie(p): reference.HalfTweedieLoss(power=p) for p in (1.2, 1.5, 2.7)},
}


def derivative(f, x, h):
    """Five points; the error is O(h^4)."""
    return (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h)


def with_kink(loss, z, y):
    """Where the second derivative jumps, within the five points."""
    if isinstance(loss, Huber):
        return np.abs(np.abs(z - y) - loss.delta) < 3e-3
    if isinstance(loss, SquaredHinge):
        return np.abs(np.where(y == loss.positive, z, -z) - 1) < 3e-3
    return np.zeros(z.shape, bool)


@pytest.mark.parametrize("loss", BOUNDED, ids=str)
@pytest.mark.parametrize("label", [1.0, 0.0, -3.0])
def test_slope_and_curvature(loss, label):
    y = np.full_like(Z, label)
    terms = loss.terms(Z, y)
    smooth = ~with_kink(loss, Z, y)
    slope = derivative(lambda z: loss.terms(z, y).value, Z, 1e-3)
    curvature = derivative(lambda z: loss.terms(z, y).slope, Z, 1e-3)
    np.testing.assert_allclose(terms.slope[smooth], slope[smooth], atol=2e-9)
    np.testing.assert_allclose(terms.curvature[smooth], curvature[smooth], atol=2e-9)
    assert (terms.curvature <= loss.max_curvature).all()
    assert loss.terms(np.array([label]), y[:1]).curvature[0] <= loss.max_curvature
    assert loss.in_range(y).all() and not loss.least(y).any() and loss.best_constant(5.0) == 0.0


@pytest.mark.parametrize("loss", LOG_LINK, ids=str)
@pytest.mark.parametrize("label", [1e-3, 0.5, 7.0])
def test_slope_and_curvature_of_a_log_link(loss, label):
    z = np.linspace(-3, 3, 61)
    y = np.full_like(z, label)
    terms = loss.terms(z, y)
    size = 1 + np.abs(terms.value) + np.abs(terms.slope) + np.abs(terms.curvature)
    slope = derivative(lambda z: loss.terms(z, y).value, z, 1e-3)
    curvature = derivative(lambda z: loss.terms(z, y).slope, z, 1e-3)
    np.testing.assert_allclose(terms.slope / size, slope / size, atol=1e-10)
    np.testing.assert_allclose(terms.curvature / size, curvature / size, atol=1e-10)
    assert loss.is_convex == (loss.power <= 2)
    if loss.is_convex:
        assert (terms.curvature >= 0).all()
    assert loss.max_curvature == np.inf


@pytest.mark.parametrize(("loss", "twin"), TWINS.items(), ids=[str(loss) for loss in TWINS])
def test_values_slopes_and_curvatures_are_scikit_learns(loss, twin):
    rng = np.random.default_rng(0)
    z = rng.normal(size=300) * 3
    y = (rng.random(300) < 0.5).astype(float) if isinstance(loss, Logistic) else rng.gamma(1.0, 3.0, 300)
    value, _ = twin.loss_gradient(y_true=y, raw_prediction=z)
    slope, curvature = twin.gradient_hessian(y_true=y, raw_prediction=z)
    terms = loss.terms(z, y)
    np.testing.assert_allclose(terms.value, value, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(terms.slope, slope, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(terms.curvature, curvature, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("loss", LOG_LINK, ids=str)
def test_half_the_deviance_is_what_is_above_the_least(loss):
    rng = np.random.default_rng(1)
    y, z = rng.gamma(1.0, 3.0, 50), rng.normal(size=50)
    if loss.power < 2:
        y[:5] = 0.0
    above = loss.terms(z, y).value - loss.least(y)
    assert (above >= 0).all()
    expected = [mean_tweedie_deviance([a], [np.exp(b)], power=loss.power) for a, b in zip(y, z, strict=True)]
    np.testing.assert_allclose(2 * above, expected, rtol=1e-11, atol=1e-12)
    best = loss.terms(np.log(y[5:]), y[5:])
    np.testing.assert_allclose(best.value, loss.least(y[5:]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("loss", LOG_LINK, ids=str)
def test_the_best_constant_and_the_shift_to_it(loss):
    y = np.random.default_rng(2).gamma(1.0, 3.0, 50)
    best = loss.best_constant(y.mean())
    assert loss.terms(np.full_like(y, best), y).slope.mean() == pytest.approx(0.0, abs=1e-12)
    for z in (best - 20, best + 1.5, best + 15):
        terms = loss.terms(np.full_like(y, z), y)
        shift = loss.shift(terms.slope.mean(), terms.curvature.mean())
        assert z + shift == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("loss", LOG_LINK, ids=str)
def test_the_range_of_labels(loss):
    y = np.array([-1.0, -1e-300, 0.0, 1e-300, 5.0])
    assert loss.in_range(y).tolist() == [False, False, loss.power < 2, True, True]


@pytest.mark.parametrize("loss", [*BOUNDED, *LOG_LINK], ids=str)
@pytest.mark.parametrize("z", [1e3, 1e300])
def test_far_out_every_number_is_one(loss, z):
    with np.errstate(all="raise", under="ignore", over="ignore" if z > 1e100 else "raise"):
        terms = loss.terms(np.array([z, z, -z, -z]), np.array([1.0, 3.0, 1.0, 3.0]))
    if z < 1e100:
        assert all(np.isfinite(part).all() for part in terms)
    assert not any(np.isnan(part).any() for part in terms)
    if loss.is_convex:
        assert (terms.curvature >= 0).all()
        assert (terms.slope[:2] >= 0).all() or isinstance(loss, SquaredHinge | Logistic)
        assert (terms.slope[2:] <= 0).all() or isinstance(loss, SquaredHinge | Logistic)


def test_far_out_in_the_good_direction_it_is_exact():
    y = np.array([2.0])
    np.testing.assert_allclose(np.ravel(Poisson().terms(np.array([-1e3]), y)), [2e3, -2.0, 0.0])
    np.testing.assert_allclose(np.ravel(Gamma().terms(np.array([1e3]), y)), [1e3, 1.0, 0.0])
    np.testing.assert_allclose(np.ravel(Huber(0.5).terms(np.array([1e3]), y)), [498.875, 0.5, 0.0])
    np.testing.assert_allclose(
        np.ravel(SquaredHinge(2.0).terms(np.array([-1e3]), y)), [1001.0**2, -2002.0, 2.0]
    )


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


def test_squared_hinge_in_plain_words():
    z = np.array([-2.0, 0.0, 0.5, 1.0, 3.0])
    positive, negative = SquaredHinge().terms(z, np.ones(5)), SquaredHinge().terms(-z, np.zeros(5))
    assert positive.value.tolist() == negative.value.tolist() == [9.0, 1.0, 0.25, 0.0, 0.0]
    assert positive.slope.tolist() == [-6.0, -2.0, -1.0, 0.0, 0.0]
    assert negative.slope.tolist() == [6.0, 2.0, 1.0, 0.0, 0.0]
    assert positive.curvature.tolist() == negative.curvature.tolist() == [2.0, 2.0, 2.0, 0.0, 0.0]
