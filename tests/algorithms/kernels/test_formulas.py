"""The losses in C against scikit-learn's and against the formulas in many digits."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED
from sklearn._loss import loss as theirs

from hpcml.algorithms.kernels.choice import compiled
from hpcml.algorithms.losses import Logistic

pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled kernels for this machine")

EPS = np.finfo(float).eps
Z = np.concatenate([np.linspace(-30, 30, 2001), [0.0, -0.0, 1e-300, -1e-17, 1e-9]])


def terms(kind, z, y, a=0.0, b=0.0, name=None):
    z, y = np.asarray(z, float), np.broadcast_to(np.asarray(y, float), np.shape(z)).copy()
    out = tuple(np.empty(z.size) for _ in range(3))
    compiled().terms(name or COMPILED[0], (kind, a, b), z, y, out)
    return out


PEERS = {
    "squared": (theirs.HalfSquaredError(), 0.0, [-1.5, 2.0]),
    "logistic": (theirs.HalfBinomialLoss(), 1.0, [0.0, 1.0]),
    "poisson": (theirs.HalfPoissonLoss(), 0.0, [0.0, 3.0]),
    "gamma": (theirs.HalfGammaLoss(), 0.0, [0.5, 3.0]),
    "tweedie": (theirs.HalfTweedieLoss(power=1.5), 1.5, [0.0, 3.0]),
    "huber": (theirs.HuberLoss(quantile=0.5, delta=1.25), 1.25, [-1.5, 2.0]),
}


@pytest.mark.parametrize("kind", PEERS)
def test_as_scikit_learn(kind):
    peer, a, labels = PEERS[kind]
    for y in labels:
        value, slope, curvature = terms(kind, Z, y, a)
        target = np.full_like(Z, y)
        expected = peer.loss(target, Z)
        np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-13)
        their_slope, their_curvature = peer.gradient_hessian(target, Z)
        np.testing.assert_allclose(slope, their_slope, rtol=1e-12, atol=1e-14)
        if kind != "huber":  # scikit-learn gives its curvature the value 1 everywhere, an upper bound
            np.testing.assert_allclose(curvature, their_curvature, rtol=1e-12, atol=1e-14)


def test_huber_curvature_is_that_of_its_slope():
    assert terms("huber", [-3.0, -1.0, 0.0, 1.25, 1.5], 0.0, 1.25)[2].tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("y", [3.0, 0.0])
def test_squared_hinge(y):
    t = 1.0 if y == 3.0 else -1.0
    gap = np.maximum(0, 1 - t * Z)
    formulas = (gap**2, -2 * t * gap, 2.0 * (gap > 0))
    for found, expected in zip(terms("squared_hinge", Z, y, 3.0), formulas, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("y", [1.0, 0.0])
def test_logistic_as_numpy_computes_it(y):
    formulas = Logistic().terms(Z, np.full_like(Z, y))
    for found, expected in zip(terms("logistic", Z, y, 1.0), formulas, strict=True):
        np.testing.assert_allclose(found, expected, rtol=8 * EPS)


def test_exp_within_two_units_of_the_last_place():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.uniform(-707, 700, 200_000), rng.uniform(-1, 1, 200_000), [700.0, -707.6, 0.0]])
    exact = np.exp(z.astype(np.longdouble))
    found = terms("poisson", z, 0.0)[2]
    units = np.abs(found - exact) / np.spacing(exact.astype(float))
    assert units.max() < 2


@pytest.mark.parametrize("z", [1e3, 1e300, np.inf])
def test_logistic_far_out(z):
    value, slope, curvature = terms("logistic", [z, -z], 1.0, 1.0)
    assert value.tolist() == [0.0, z]
    assert slope.tolist() == [0.0, -1.0]
    assert curvature.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("z", [1e3, 1e300])
def test_far_out(z):
    value, slope, curvature = terms("poisson", [z, -z], 0.0)
    # Held at exp(700), finite: a row of weight zero adds zero.
    assert slope[0] == curvature[0] == pytest.approx(np.exp(700.0), rel=1e-13)
    assert value[1] == slope[1] == curvature[1] == 0.0
    assert terms("gamma", [z], 2.0)[0][0] == z
    assert terms("squared_hinge", [z, -z], 1.0, 1.0)[1].tolist() == [0.0, -2 * (1 + z)]
    assert terms("huber", [z], 0.0, 1.0)[1].tolist() == [1.0]


@pytest.mark.parametrize("kind", [*PEERS, "squared_hinge"])
def test_no_number_stays_none(kind):
    z = np.array([np.nan, -np.nan, np.frombuffer(np.uint64(0x7FF8000000000FFF).tobytes())[0]])
    assert np.isnan(terms(kind, z, 1.0, 1.5)[0]).all()


def test_the_same_bits_of_every_instruction_set():
    if len(COMPILED) < 2:
        pytest.skip(f"this processor has {COMPILED[0]} alone")
    for kind, (_, a, labels) in PEERS.items():
        for y in labels:
            found = [terms(kind, Z, y, a, name=name) for name in COMPILED]
            assert len({b"".join(part.tobytes() for part in parts) for parts in found}) == 1
