"""Penalties against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from hpcml.algorithms.penalties import make_penalty

KINDS = {
    "none": {},
    "ridge": {"l2": 0.7},
    "lasso": {"l1": 0.4},
    "elastic net": {"l2": 0.7, "l1": 0.4},
    "positive": {"l1": 0.1, "lower": 0.0},
    "box": {"lower": -0.5, "upper": 1.5},
    "all": {"l2": 0.2, "l1": 0.3, "lower": -1.0, "upper": 2.0},
}
EACH = pytest.mark.parametrize("kind", KINDS)
NUMBER = st.floats(-4, 4)


def penalty_of(kind):
    return make_penalty(1, **KINDS[kind])


def best(function, low=-50.0, high=50.0):
    """The least of a convex function of one number that jumps nowhere inside its bounds."""
    return minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-11})


def one(x):
    return np.array([x])


@EACH
@given(w=NUMBER, step=st.sampled_from([0.1, 1.0, 3.0]))
def test_prox(kind, w, step):
    penalty = penalty_of(kind)
    found = float(penalty.prox(one(w), step)[0])
    low, high = max(penalty.lower[0], -50.0), min(penalty.upper[0], 50.0)
    oracle = best(lambda v: 0.5 * (v - w) ** 2 + step * penalty.l1[0] * abs(v), low, high).x
    assert low <= found <= high
    assert found == pytest.approx(oracle, abs=1e-5)


@EACH
@given(w=NUMBER, slope=NUMBER)
def test_the_fenchel_gap(kind, w, slope):
    penalty = penalty_of(kind)
    w = float(np.clip(w, penalty.lower[0], penalty.upper[0]))
    share = penalty.feasible_share(one(slope))
    assert 0 <= share <= 1
    x = share * slope
    low, high = max(penalty.lower[0], -1e3), min(penalty.upper[0], 1e3)
    conjugate = -best(lambda v: penalty.value(one(v)) - x * v, low, high).fun
    assert penalty.fenchel_gap(one(w), one(x)) == pytest.approx(
        penalty.value(one(w)) + conjugate - x * w, abs=1e-4
    )


@EACH
@given(w=NUMBER, slope=NUMBER)
def test_the_residual_is_zero_where_prox_stays(kind, w, slope):
    penalty = penalty_of(kind)
    w = float(penalty.prox(one(w), 1.0)[0])  # at bounds and at zero now and then
    moved = float(penalty.prox(one(w - 1e-3 * slope), 1e-3)[0]) - w
    residual = float(penalty.residual(one(w), one(slope))[0])
    assert (abs(moved) < 1e-12) == (abs(residual) < 1e-9)
    assert residual * moved <= 0
    assert abs(residual) <= abs(slope) + penalty.l1[0]


def test_the_gradient_is_that_of_the_smooth_part():
    penalty, w, h = make_penalty(3, [1.0, 2.0, 0.0], 0.5), np.array([0.3, -2.0, 4.0]), 1e-6
    for j, e in enumerate(np.eye(3)):
        up, down = (penalty.value(w + s * e) - penalty.rough_value(w + s * e) for s in (h, -h))
        assert penalty.gradient(w)[j] == pytest.approx((up - down) / (2 * h), abs=1e-8)


def test_outside_the_bounds():
    assert make_penalty(2, lower=0.0).value(np.array([1.0, -1e-9])) == np.inf


@pytest.mark.parametrize(
    ("kind", "is_smooth", "has_gap"),
    [
        ("none", True, False),
        ("ridge", True, True),
        ("lasso", False, True),
        ("elastic net", False, True),
        ("positive", False, True),
        ("box", False, True),
    ],
)
def test_what_it_has(kind, is_smooth, has_gap):
    assert (penalty_of(kind).is_smooth, penalty_of(kind).has_gap) == (is_smooth, has_gap)


def test_one_weight_that_nothing_holds():
    assert not make_penalty(2, [1.0, 0.0]).has_gap
    assert not make_penalty(2, lower=0.0).has_gap
    assert not make_penalty(0, 1.0).has_gap


@given(w=NUMBER, direction=NUMBER)
def test_the_secant(w, direction):
    penalty = make_penalty(1, 0.3, 0.4)
    change = penalty.rough_value(one(w + direction)) - penalty.rough_value(one(w))
    secant = float(penalty.secant(one(w), one(direction))[0])
    assert secant * direction == pytest.approx(change, abs=1e-12)
    assert abs(secant) <= 0.4 * (1 + 1e-9) or abs(direction) < 1e-12
