"""Data sets, objectives in plain NumPy, and the frame in which solvers are tried."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.losses.kinds import CLASSIFIERS, make_loss
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.scaling import no_scaling
from hpcml.algorithms.survey import survey
from hpcml.algorithms.target import look_at_target
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset, RowPartition, make_block, part_of

SERIAL = SerialCommunicator()
POWER = 1.4


class Problem(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None


class Grid:
    """Rows in memory on a grid of small shards and blocks; a rank has whole shards, maybe none."""

    def __init__(self, problem, comm=SERIAL, shard_rows=32, block_rows=8, selection=None):
        X, y, weight = problem
        n, d = X.shape
        shards = -(-n // shard_rows)
        borders = tuple(shards * r // comm.size for r in range(comm.size + 1))
        self.comm, self.n_features = comm, d
        self.partition = RowPartition(n, shard_rows, block_rows, borders)
        mine = self.partition.shards_of(comm.rank)
        start, stop = self.partition.rows_of(mine)
        # Copies: a selection is compacted in the memory of X.
        cut = [None if array is None else array[start:stop].copy() for array in (X, y, weight)]
        keep = None if selection is None else selection.keeps(np.arange(start, stop))
        self._block = make_block(*cut, mine, self.partition, keep)
        self.n_samples = n

    def blocks(self, shard=None):
        mine = self.partition.shards_of(self.comm.rank)
        yield self._block if shard is None else part_of(self._block, shard - mine.start)


def classification(n=150, d=6, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    y = (X @ rng.normal(size=d) + rng.logistic(size=n) > 0).astype(float)
    return Problem(X, y, rng.integers(0, 4, n).astype(float) if weighted else None)


def regression(n=150, d=6, seed=0, weighted=False):
    X, _, weight = classification(n, d, seed, weighted)
    rng = np.random.default_rng(seed + 1)
    return Problem(X, X @ rng.normal(size=d) + rng.normal(size=n) + 3, weight)


def counts(n=150, d=6, seed=0, weighted=False):
    X, _, weight = classification(n, d, seed, weighted)
    rng = np.random.default_rng(seed + 2)
    return Problem(X, rng.poisson(np.exp(0.4 * X @ rng.normal(size=d) + 1)).astype(float), weight)


def amounts(n=150, d=6, seed=0, weighted=False):
    X, y, weight = counts(n, d, seed, weighted)
    return Problem(X, np.random.default_rng(seed).gamma(2.0, 0.1 + y), weight)


def amounts_and_zeros(n=150, d=6, seed=0, weighted=False):
    X, y, weight = counts(n, d, seed, weighted)
    return Problem(X, np.where(y < 2, 0.0, y * np.random.default_rng(seed).random(n)), weight)


PROBLEMS = {
    "logistic_regression": classification,
    "linear_regression": regression,
    "linear_svc": classification,
    "poisson_regression": counts,
    "gamma_regression": amounts,
    "tweedie_regression": amounts_and_zeros,
}


def loss_of(kind, power=POWER):
    return make_loss(kind, [0.0, 1.0], power)


def plain_objective(problem, kind, alpha=0.1, intercept=True, comm=SERIAL, **grid):
    """The objective on the raw features, with one strength for every weight."""
    data = Grid(problem, comm, **grid)
    d = problem.X.shape[1]
    n = float(problem.X.shape[0] if problem.weight is None else problem.weight.sum())
    return Objective(data, loss_of(kind), make_penalty(d, alpha), no_scaling(d), n, intercept)


def model_objective(problem, kind, comm=SERIAL, dataset=Grid, **settings):
    """The objective as a run makes it."""
    data = dataset(problem, comm)
    found = survey(data, classes=kind in CLASSIFIERS)
    chosen = ModelSettings(kind, **{"power": POWER, **settings})
    target = look_at_target(data, loss_of(kind, chosen.power))
    return make_objective(data, chosen, found, target=target)


def in_memory(problem, comm):
    """ArrayDataset of an even split of the rows."""
    n = problem.X.shape[0]
    part = slice(n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)
    X, y, weight = problem
    return ArrayDataset(X[part], y[part], None if weight is None else weight[part], comm=comm)


def rows_of(kind, z, y):
    """Loss, slope and curvature at each row, as a textbook has them."""
    if kind == "linear_regression":
        return 0.5 * (z - y) ** 2, z - y, np.ones_like(z)
    if kind == "logistic_regression":
        p = 1 / (1 + np.exp(-z))
        return np.logaddexp(0, z) - y * z, p - y, p * (1 - p)
    if kind == "linear_svc":
        t = 2 * y - 1
        inside = t * z < 1
        return inside * (1 - t * z) ** 2, inside * -2 * t * (1 - t * z), 2.0 * inside
    m = np.exp(z)
    if kind == "poisson_regression":
        return m - y * z, m - y, m
    if kind == "gamma_regression":
        return z + y / m, 1 - y / m, y / m
    p = POWER
    value = m ** (2 - p) / (2 - p) - y * m ** (1 - p) / (1 - p)
    return value, m ** (2 - p) - y * m ** (1 - p), (2 - p) * m ** (2 - p) - (1 - p) * y * m ** (1 - p)


def naive(problem, kind, alpha, coef, intercept):
    """F, its gradient in (coef, intercept) and its Hessian, row by row of the formula."""
    X = problem.X.toarray() if sparse.issparse(problem.X) else np.asarray(problem.X, float)
    n, d = X.shape
    s = np.ones(n) if problem.weight is None else problem.weight
    U = np.column_stack([X, np.ones(n)])
    z = U @ np.append(coef, intercept)
    value, r, h = rows_of(kind, z, problem.y)
    strength = np.append(np.broadcast_to(alpha, d), 0.0)
    w = np.append(coef, intercept)
    return (
        float(s @ value / s.sum() + 0.5 * strength @ w**2),
        U.T @ (s * r) / s.sum() + strength * w,
        (U.T * (s * h)) @ U / s.sum() + np.diag(strength),
    )


def as_csr(problem):
    return problem._replace(X=sparse.csr_array(problem.X))


def same(objective, **changes):
    return replace(objective, **changes)
