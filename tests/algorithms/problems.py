"""Data sets, objectives in plain NumPy, and the frame in which solvers are tried."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.losses import Logistic, Squared
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.scaling import no_scaling
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset, RowPartition, make_block

SERIAL = SerialCommunicator()
LOSSES = {"logistic_regression": Logistic(), "linear_regression": Squared()}


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
        assert shard is None
        yield self._block


def classification(n=150, d=6, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    y = (X @ rng.normal(size=d) + rng.logistic(size=n) > 0).astype(float)
    return Problem(X, y, rng.integers(0, 4, n).astype(float) if weighted else None)


def regression(n=150, d=6, seed=0, weighted=False):
    X, _, weight = classification(n, d, seed, weighted)
    rng = np.random.default_rng(seed + 1)
    return Problem(X, X @ rng.normal(size=d) + rng.normal(size=n) + 3, weight)


PROBLEMS = {"logistic_regression": classification, "linear_regression": regression}


def plain_objective(problem, kind, alpha=0.1, intercept=True, comm=SERIAL, **grid):
    """The objective on the raw features, with one strength for every weight."""
    data = Grid(problem, comm, **grid)
    d = problem.X.shape[1]
    n = float(problem.X.shape[0] if problem.weight is None else problem.weight.sum())
    return Objective(data, LOSSES[kind], make_penalty(d, alpha), no_scaling(d), n, intercept)


def model_objective(problem, kind, comm=SERIAL, dataset=Grid, **settings):
    """The objective as a run makes it."""
    data = dataset(problem, comm)
    found = survey(data, classes=kind == "logistic_regression")
    return make_objective(data, ModelSettings(kind, **settings), found)


def in_memory(problem, comm):
    """ArrayDataset of an even split of the rows."""
    n = problem.X.shape[0]
    part = slice(n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)
    X, y, weight = problem
    return ArrayDataset(X[part], y[part], None if weight is None else weight[part], comm=comm)


def naive(problem, kind, alpha, coef, intercept):
    """F, its gradient in (coef, intercept) and its Hessian, row by row of the formula."""
    X = problem.X.toarray() if sparse.issparse(problem.X) else np.asarray(problem.X, float)
    n, d = X.shape
    s = np.ones(n) if problem.weight is None else problem.weight
    U = np.column_stack([X, np.ones(n)])
    z = U @ np.append(coef, intercept)
    if kind == "linear_regression":
        value, r, h = 0.5 * (z - problem.y) ** 2, z - problem.y, np.ones(n)
    else:
        p = 1 / (1 + np.exp(-z))
        value, r, h = np.logaddexp(0, z) - problem.y * z, p - problem.y, p * (1 - p)
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
