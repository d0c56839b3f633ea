"""The quadratic models of subproblems: runs of shards that a process owns whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hpcml.algorithms.kernels.passes import shard_sums
from hpcml.algorithms.objective import Objective, Vector
from hpcml.data import Block, own_runs

__all__ = ["LocalModel", "local_models"]


class LocalModel(NamedTuple):
    """``f_k(x) ~ f_k(w) + g . (x - w) + 1/2 (x - w)^T H (x - w)``: a subproblem's part of the mean loss.

    Attributes
    ----------
    sums : array
        Of its rows: loss, slopes, and X^T slopes, for the sum over subproblems.
    gradient : (n_parameters,) array
    hessian : (n_parameters, n_parameters) array
    """

    sums: Vector
    gradient: Vector
    hessian: NDArray[np.float64]

    def move_near(self, u: Vector, rho: float) -> Vector:
        """Return ``argmin_m g . m + 1/2 m^T H m + rho / 2 ||m + u||^2``, (n_parameters,). Local.

        Zero where the model is not finite, which the sums then say.
        """
        H = self.hessian + rho * np.eye(u.size)
        if not np.isfinite(H).all():
            return np.zeros_like(u)
        return np.asarray(-cho_solve(cho_factor(H), self.gradient + rho * u))


def local_models(objective: Objective, w: Vector, blocks: Iterable[Block]) -> Iterator[LocalModel]:
    """Yield the model at w of each of my subproblems in order, from the blocks of one pass. Local."""
    columns, d = objective.all_columns, objective.data.n_features
    for sums in _run_sums(objective, w, blocks):
        loss = objective.mean_loss(sums, columns)
        yield LocalModel(sums[: 2 + d], loss.gradient, loss.hessian)


def _run_sums(objective: Objective, w: Vector, blocks: Iterable[Block]) -> Iterator[Vector]:
    """Yield the sums over each of my runs, shards added in order."""
    columns, partition = objective.all_columns, objective.data.partition
    coef, intercept = objective.to_raw(w)
    found = (
        sums
        for block in blocks
        for part in shard_sums(block, objective.loss, coef, intercept, columns)
        for sums in part
    )
    for run in own_runs(objective.data):
        yield reduce(np.add, islice(found, len(partition.run(run))))
