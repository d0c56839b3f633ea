"""The certificate bounds what it says, at any point."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import PROBLEMS, SERIAL, Grid, model_objective, plain_objective, same
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from hpcml.algorithms import certificate as certificate_module
from hpcml.algorithms.certificate import certify, make_reference
from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.collectives import CountingCommunicator

KINDS = list(PROBLEMS)


def tightly_solved(objective):
    """The optimal value by another's solver, polished until nothing moves."""
    w = np.zeros(objective.n_parameters)
    for _ in range(3):
        w = minimize(
            lambda v: (objective.evaluate(v).value, objective.evaluate(v).gradient), w, jac=True, tol=1e-14
        ).x
    return objective.evaluate(w).value


def at(objective, w):
    reference = make_reference(objective.evaluate(np.zeros(objective.n_parameters)))
    return certify(objective, reference, objective.evaluate(w))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-4, 0.1, 1.0, 20.0]))
def test_the_gap_bounds_the_distance_to_the_optimum(kind, intercept, seed, scale):
    objective = plain_objective(PROBLEMS[kind](weighted=True), kind, 0.05, intercept)
    best = best_of(kind, intercept, objective)
    scale = min(scale, 2.0) if objective.loss.has_log_link else scale  # exp(60) leaves no digits
    w = np.random.default_rng(seed).normal(size=objective.n_parameters) * scale
    point, certificate = at(objective, w)
    assert certificate.kind == "duality_gap"
    assert certificate.gap >= point.value - best - 1e-10
    assert certificate.gap > 0
    assert certificate.intercept_gradient <= 1e-9 * max(1.0, scale)
    assert point.value <= objective.evaluate(w).value + 1e-12  # the best intercept is no worse


_BEST = {}


def best_of(kind, intercept, objective):
    if (kind, intercept) not in _BEST:
        _BEST[kind, intercept] = tightly_solved(objective)
    return _BEST[kind, intercept]


@pytest.mark.parametrize("kind", KINDS)
def test_it_vanishes_at_the_optimum(kind):
    objective, _ = model_objective(PROBLEMS[kind](), kind, alpha=0.1)
    result = run_solver(objective, NewtonCholesky(), Rules(tol=1e-14))
    assert result.converged
    assert result.certificate.gap < 1e-14
    assert result.objective == pytest.approx(tightly_solved(objective), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_penalty_it_is_the_scaled_gradient(kind):
    objective = plain_objective(PROBLEMS[kind](), kind, 0.0)
    zero = objective.evaluate(np.zeros(7))
    w = np.random.default_rng(0).normal(size=7)
    point, certificate = at(objective, w)
    assert certificate.kind == "kkt"
    assert np.isnan(certificate.gap)
    expected = np.abs(objective.evaluate(point.w).gradient).max() / np.abs(zero.gradient).max()
    assert certificate.value == pytest.approx(expected, rel=1e-12)


def test_it_is_computed_anew():
    objective = plain_objective(PROBLEMS["linear_regression"](), "linear_regression", 0.1)
    true = objective.evaluate(np.ones(7))
    lying = true._replace(gradient=np.zeros(7), value=0.0)
    reference = make_reference(objective.evaluate(np.zeros(7)))
    assert certify(objective, reference, lying)[1] == certify(objective, reference, true)[1]


@pytest.mark.parametrize("far", [1e3, -1e5])
@pytest.mark.parametrize("kind", KINDS)
def test_an_intercept_that_is_far_off_is_found(kind, far):
    objective = plain_objective(PROBLEMS[kind](), kind, 0.05)
    w = np.append(np.full(6, 0.1), far)
    point, certificate = at(objective, w)
    assert certificate.intercept_gradient < 1e-9
    assert abs(point.w[-1]) < 10


def test_no_bound_without_the_best_intercept(monkeypatch):
    monkeypatch.setattr(certificate_module, "_INTERCEPT_STEPS", 0)
    objective = plain_objective(PROBLEMS["linear_regression"](), "linear_regression", 1e6)
    _, certificate = at(objective, np.append(np.zeros(6), 100.0))
    assert certificate.gap == np.inf
    assert 1 < certificate.value < np.inf


def test_messages():
    problem = PROBLEMS["logistic_regression"]()
    objective = plain_objective(problem, "logistic_regression", 0.1)
    result = run_solver(objective, NewtonCholesky(), Rules(tol=1e-6))
    counting = CountingCommunicator(SERIAL)
    counted = same(objective, data=Grid(problem, counting))
    certify(counted, result.loop.reference, result.loop.solver.point)
    assert counting.calls["allreduce"] <= 10
    counting.calls.clear()
    certify(same(counted, fit_intercept=False), result.loop.reference, objective_without(result))
    assert counting.calls == {"allreduce": 2}


def objective_without(result):
    return result.loop.solver.point._replace(w=result.w[:-1])


def test_a_weak_penalty_is_none():
    objective = plain_objective(PROBLEMS["linear_regression"](), "linear_regression", 0.1)
    half = same(objective, penalty=make_penalty(6, [1.0] * 5 + [0.0]))
    assert at(half, np.ones(7))[1].kind == "kkt"
