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
        y = z if name.endswith("regression") else (z > 0).astype(int)
    weight = np.random.default_rng(2).integers(0, 4, len(y)).astype(float)
    for array in (X, y, weight):
        array.setflags(write=False)
    return Problem(X, y, weight)


@pytest.fixture(scope="session")
def problem():
    """`problem(name)`: X, y, weight, read-only."""
    return make_problem
