"""The optimum of a small problem, found without any code of the solvers."""

from __future__ import annotations

import numpy as np
from algorithms.problems import naive, rows_of
from scipy import sparse
from scipy.optimize import minimize

FREE = 1e-9
"""Largest share of the strength by which a weight at zero or at a bound may pull."""


def optimum(problem, kind, l2=0.0, l1=0.0, lower=-np.inf, upper=np.inf):
    """Return coefficients and intercept at these strengths and bounds, (d,) or a number each.

    Every weight is the difference of two that are not negative, which makes the problem smooth within
    bounds: SciPy finds which weights are zero or at a bound, and Newton's method ends it on the others. The
    conditions of Karush, Kuhn and Tucker are then checked.
    """
    d = problem.X.shape[1]
    l2, l1, lower, upper = (np.broadcast_to(np.asarray(one, float), (d,)) for one in (l2, l1, lower, upper))
    w = _polished(problem, kind, l2, l1, _rough(problem, kind, l2, l1, lower, upper), lower, upper)
    _, gradient, _ = naive(problem, kind, l2, w[:d], w[d])
    pull = np.append(np.where(w[:d] == 0, 0.0, gradient[:d] + l1 * np.sign(w[:d])), gradient[d])
    at_lower, at_upper = (np.append(w[:d] == bound, False) for bound in (lower, upper))
    assert np.abs(pull[~(at_lower | at_upper)]).max(initial=0.0) < FREE
    assert (pull[at_lower] > -FREE).all() and (pull[at_upper] < FREE).all()
    _assert_held(w[:d], gradient[:d], l1, lower, upper)
    return w[:d], w[d]


def _assert_held(w, gradient, l1, lower, upper):
    """A weight of zero is pulled neither up nor down, but against a bound."""
    zero = w == 0
    assert (-gradient <= l1 + FREE)[zero & (upper > 0)].all()
    assert (gradient <= l1 + FREE)[zero & (lower < 0)].all()


def _rough(problem, kind, l2, l1, lower, upper):
    d = problem.X.shape[1]
    X = problem.X.toarray() if sparse.issparse(problem.X) else problem.X
    U = np.column_stack([X, np.ones(len(X))])
    s = np.ones(len(X)) if problem.weight is None else problem.weight
    s = s / s.sum()

    def value_and_gradient(parts):
        w = parts[:d] - parts[d : 2 * d]
        value, slope, _ = rows_of(kind, U @ np.append(w, parts[-1]), problem.y)
        gradient = U.T @ (s * slope)
        smooth = gradient[:d] + l2 * w
        penalty = l1 @ (parts[:d] + parts[d : 2 * d]) + 0.5 * l2 @ w**2
        return s @ value + penalty, np.concatenate([smooth + l1, l1 - smooth, gradient[d:]])

    bounds = [*((0, high) for high in upper), *((0, -low) for low in lower), (None, None)]
    options = {"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000, "maxfun": 20_000}
    parts = np.zeros(2 * d + 1)
    for _ in range(3):
        parts = minimize(
            value_and_gradient, parts, jac=True, bounds=bounds, method="L-BFGS-B", options=options
        ).x
    return np.append(parts[:d] - parts[d : 2 * d], parts[-1])


def _polished(problem, kind, l2, l1, w, lower, upper):
    """Return w after Newton steps on the weights that are free, with exact zeros and bounds."""
    d = len(l2)
    _, gradient, _ = naive(problem, kind, l2, w[:d], w[d])
    kept = (np.abs(w[:d]) > 1e-7) | (np.abs(gradient[:d]) > l1 - 1e-7)
    inside = (w[:d] > lower + 1e-7) & (w[:d] < upper - 1e-7)
    start = np.where(kept, np.where(inside, w[:d], np.clip(w[:d], lower, upper)), 0.0)
    for bound in (lower, upper):
        start = np.where(np.abs(w[:d] - bound) <= 1e-7, bound, start)
    sign = np.sign(w[:d])
    free = np.append(kept & inside, True)
    w = np.append(start, w[d])
    for _ in range(20):
        _, gradient, H = naive(problem, kind, l2, w[:d], w[d])
        gradient = gradient + np.append(l1 * sign, 0.0)
        w[free] -= np.linalg.solve(H[np.ix_(free, free)], gradient[free])
    return w
