"""Problems to fit: real ones, and one whose columns differ by eight orders of magnitude."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits


class Problem(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def _ill_conditioned(n=600, d=12):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.9 * rng.normal(size=(d, d)))
    z = X @ rng.normal(size=d)
    return X * np.logspace(-4, 4, d), z + 2 * rng.normal(size=n)


def _many_rows(n=9000, d=40):
    """Rows for nine shards."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, d))
    X[rng.random(X.shape) < 0.6] = 0.0
    return X, X @ rng.normal(size=d) + 3 * rng.normal(size=n)


def _of_kind(kind, z):
    """What a model of that kind predicts: a class, counts, positive amounts, or z itself."""
    mean = np.exp(z / z.std())
    if kind == "counts":
        return np.random.default_rng(3).poisson(mean).astype(float)
    if kind == "amounts":
        return np.random.default_rng(3).gamma(2.0, mean) + 1e-9
    return z if kind == "regression" else (z > 0).astype(int)


@cache
def make_problem(name: str) -> Problem:
    digits = load_digits()
    if name == "breast cancer":
        X, y = load_breast_cancer(return_X_y=True)
    elif name == "digits from 5":
        X, y = digits.data, (digits.target >= 5).astype(int)
    elif name == "digit 8":
        X, y = digits.data, (digits.target == 8).astype(int)
    elif name == "digit as a number":
        X, y = digits.data, digits.target.astype(float)
    elif name == "diabetes":
        X, y = load_diabetes(return_X_y=True, scaled=False)
    else:
        X, z = _ill_conditioned() if name.startswith("ill") else _many_rows()
        y = _of_kind(name.split()[-1], z)
    weight = np.random.default_rng(2).integers(0, 4, len(y)).astype(float)
    for array in (X, y, weight):
        array.setflags(write=False)
    return Problem(X, y, weight)


@pytest.fixture(scope="session")
def problem():
    """`problem(name)`: X, y, weight, read-only."""
    return make_problem
