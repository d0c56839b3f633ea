"""The quadratic models of subproblems: runs of shards that a process owns whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import shard_sums
from hpcml.algorithms.objective import Objective, Vector
from hpcml.data import Block, own_runs

__all__ = ["LocalModel", "local_model", "local_models"]


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
