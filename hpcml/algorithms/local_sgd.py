"""A start from the data: each shard descends over its own rows, and the results are averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batch_gradient import largest_curvature
from hpcml.algorithms.batches import make_batches
from hpcml.algorithms.kernels.walks import Steps, shard_walks
from hpcml.algorithms.losses.kinds import facts_of
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.pairs import misfit
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, is_csr
from hpcml.errors import SpecError, shared

__all__ = ["local_sgd"]

_ROWS = 32
_MOST_ROWS = 4096


def local_sgd(objective: Objective, seed: int = 0) -> Vector:
    """Return the average of a pass of SGD in each shard from the start, by the weight of its rows.

    Collective: one pass and two messages, and those of `largest_curvature`. Each walk takes its shard's
    rows in order, 32 a step (for sparse rows more, since a step moves every weight), with a step of ``1 /
    (L + c (d + 1) / rows)`` for the largest curvatures L of the mean loss and c of the loss, and averages
    its iterates. Shards, never ranks: the bits do not depend on who owns what. The average of m fits to
    parts of the data is as near to the fit to all of it as that is to the truth, while m is small against
    the rows of a part (Zhang, Duchi and Wainwright 2013, JMLR 14); so it is a start, and no more.

    Raises
    ------
    SpecError
        The loss is of unbounded curvature or not convex, or the penalty has no gradient.
    """
    _check(objective)
    largest = largest_curvature(objective, make_batches(objective.data, seed=seed))
    coef, first = objective.to_raw(objective.first_w)
    intercept = float(first)

    def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
        steps = _steps(objective, largest, is_csr(block.X))
        walks = shard_walks(block, objective.loss, coef, intercept, steps)
        weight = block.shard_sums(block.weights)[:, None]
        yield np.append(weight * walks, weight, axis=1)

    total = reduce_blocks(objective.data, statistics, coef.size + 2, ballot=objective.ballot).total
    mean = total[:-1] / total[-1]
    w = np.append(mean[:-1] * objective.scaling.scale, mean[-1])[: objective.n_parameters]
    return w if np.isfinite(w).all() else objective.first_w


def _check(objective: Objective) -> None:
    sentence = misfit("local_sgd", facts_of(objective.loss), is_smooth=objective.penalty.is_smooth)
    if sentence:
        raise shared(SpecError(f"a start by local_sgd {sentence}"))


def _steps(objective: Objective, curvature: float, is_sparse: bool) -> Steps:
    data, d = objective.data, objective.data.n_features
    rows = int(np.clip(d // 16, _ROWS, _MOST_ROWS)) if is_sparse else _ROWS
    mean, scale = objective.scaling
    step = 1.0 / (curvature + objective.loss.max_curvature * (d + 1) / rows)
    # A step has the share rows / n of all weight on average.
    each = step * data.n_samples / (rows * objective.total_weight)
    shrink = step * objective.penalty.l2
    return Steps(rows, each, objective.fit_intercept, mean, 1.0 / np.square(scale), shrink)
