"""The quadratic models of subproblems: runs of shards that a process owns whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hpcml.algorithms.kernels.passes import shard_sums
from hpcml.algorithms.objective import Objective, Vector
from hpcml.data import Block, own_runs

__all__ = ["LocalFit", "LocalModel", "local_model", "local_models"]

_FLAT = 1e-10


class LocalModel(NamedTuple):
    """``f_k(x) ~ f_k(w) + g . (x - w) + 1/2 (x - w)^T H (x - w)``: a subproblem's part of the mean loss.

    Attributes
    ----------
    sums : array
        Of its rows, as `shard_sums` has them.
    gradient : (n_parameters,) array
    hessian : (n_parameters, n_parameters) array
    """

    sums: Vector
    gradient: Vector
    hessian: NDArray[np.float64]

    def fit(self, y: Vector, rho: float, ridge: NDArray[np.float64]) -> LocalFit:
        """Return ``argmin_m (g + y) . m + (1 + rho) / 2 m^T M m`` with ``M = H + ridge``. Local.

        Zeros where the model is not finite, which the sums then say.
        """
        metric = self.hessian + ridge
        if not np.isfinite(metric).all():
            return LocalFit(np.zeros_like(y), np.zeros_like(y), 0.0, 0.0, metric)
        metric, factor = _factored(metric)
        move = -cho_solve(factor, self.gradient + y) / (1 + rho)
        pull = metric @ move
        return LocalFit(move, pull, float(move @ pull), float(y @ cho_solve(factor, y)), metric)


class LocalFit(NamedTuple):
    """A subproblem's answer near the consensus.

    Attributes
    ----------
    move : (n_parameters,) array
        From the consensus.
    pull : (n_parameters,) array
        M times the move.
    square_move, square_y : float
        ``m^T M m`` and ``y^T M^-1 y``.
    metric : (n_parameters, n_parameters) array
        M.
    """

    move: Vector
    pull: Vector
    square_move: float
    square_y: float
    metric: NDArray[np.float64]


def _factored(H: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
    """Return H, or the nearest positive matrix where rounding has made it indefinite, and its factor."""
    try:
        return H, cho_factor(H)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(H)
        values = np.maximum(values, _FLAT * max(float(values[-1]), 1e-300))
        near = np.asarray((vectors * values) @ vectors.T)
        return near, cho_factor(near)


def local_models(objective: Objective, w: Vector, blocks: Iterable[Block]) -> Iterator[LocalModel]:
    """Yield the model at w of each of my subproblems in order, from the blocks of one pass. Local."""
    found, partition = _sums_of_shards(objective, w, blocks), objective.data.partition
    for run in own_runs(objective.data):
        yield _model(objective, reduce(np.add, islice(found, len(partition.run(run)))))


def local_model(
    objective: Objective, w: Vector, run: int, pause: Callable[[], None] = lambda: None
) -> LocalModel:
    """Return the model at w of one subproblem of mine, with a `pause` before each of its shards. Local."""

    def blocks() -> Iterator[Block]:
        for shard in objective.data.partition.run(run):
            pause()
            yield from objective.data.blocks(shard)

    return _model(objective, reduce(np.add, _sums_of_shards(objective, w, blocks())))


def _model(objective: Objective, sums: Vector) -> LocalModel:
    loss = objective.mean_loss(sums, objective.all_columns)
    return LocalModel(sums, loss.gradient, loss.hessian)


def _sums_of_shards(objective: Objective, w: Vector, blocks: Iterable[Block]) -> Iterator[Vector]:
    """Yield the sums over each shard in order."""
    coef, intercept = objective.to_raw(w)
    for block in blocks:
        for part in shard_sums(block, objective.loss, coef, intercept, objective.all_columns):
            yield from part
