"""What solvers ask of a mini-batch: its gradient, and how the mean loss bends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batches import Batch, Batches
from hpcml.algorithms.kernels.passes import hessian_product, n_sums, shard_sums
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.reduction import reduce_stream
from hpcml.data import Block

__all__ = ["Estimate", "batch_estimate", "batch_gradient", "largest_curvature", "prox_step"]

_POWERS = 10

Estimate = tuple[Vector, NDArray[np.int64]]
"""A vector of (n_parameters,), and the window of the reduction for the next one of its kind."""


def batch_gradient(
    objective: Objective, batch: Batch, n: int, w: Vector, window: NDArray[np.int64]
) -> Estimate:
    """Return the gradient of the smooth part at w, estimated from one batch of n.

    Collective, one message as a rule: of ``d + 2`` sums.
    """
    at = objective.to_raw(w)
    return _estimate(objective, batch, n, window, w, lambda block: shard_sums(block, objective.loss, *at))


def batch_estimate(
    objective: Objective, batch: Batch, n: int, w: Vector, anchor: Vector, window: NDArray[np.int64]
) -> Estimate:
    """Return ``g(w) - g(anchor)`` of the smooth part, estimated from one batch of n.

    Collective, one message as a rule: of ``d + 2`` sums. The rows are read once for both.
    """
    loss, here, there = objective.loss, objective.to_raw(w), objective.to_raw(anchor)

    def change(block: Block) -> Iterator[NDArray[np.float64]]:
        pairs = zip(shard_sums(block, loss, *here), shard_sums(block, loss, *there), strict=True)
        return (new - old for new, old in pairs)

    return _estimate(objective, batch, n, window, w - anchor, change)


def _estimate(
    objective: Objective,
    batch: Batch,
    n: int,
    window: NDArray[np.int64],
    direction: Vector,
    statistics: Callable[[Block], Iterable[NDArray[np.float64]]],
) -> Estimate:
    d = objective.data.n_features

    def terms(_: Iterator[Block]) -> Iterator[NDArray[np.float64]]:
        found = [part for block in batch.blocks() for part in statistics(block)]
        if found:
            yield np.concatenate(found)

    known = window if window.size else None
    reduced = reduce_stream(objective.data, terms, n_sums(d, None), window=known, ballot=objective.ballot)
    # Every row is in a batch with chance 1 / n, so n times the batch's sums have the mean of all rows' sums.
    gradient = objective.mean_loss(n * reduced.total, None).gradient
    return gradient + objective.whole_penalty.gradient(direction), reduced.window


def largest_curvature(objective: Objective, batches: Batches) -> float:
    """Return about the largest curvature L that the smooth part has anywhere: steps of 1 / L are safe.

    Collective: ten messages or a few more, each of one batch. Powers of
    ``c U^T diag(s) U / sum s + diag(l2)`` with the largest curvature c of the loss, which bounds the Hessian,
    on one batch after another (von Mises and Pollaczek-Geiringer 1929, doi:10.1002/zamm.19290090105).
    """
    key = np.array([batches.seed % 2**64, 2**64 - 1], np.uint64)
    v = np.random.Generator(np.random.Philox(key=key)).random(objective.n_parameters) - 0.5
    largest, window = 0.0, np.zeros(0, np.int64)
    for i, batch in enumerate(_cycled(batches, _POWERS)):
        v = v / np.linalg.norm(v)
        v, window = _product(objective, batch, batches.n, v, window if i > 1 else window[:0])
        largest = max(largest, float(np.linalg.norm(v)))
        if not 0 < largest < np.inf:
            break
    return largest if 0 < largest < np.inf else 1.0


def _cycled(batches: Batches, n: int) -> Iterator[Batch]:
    first = list(batches.epoch(0))
    return (first[i % len(first)] for i in range(n))


def _product(objective: Objective, batch: Batch, n: int, v: Vector, window: NDArray[np.int64]) -> Estimate:
    curvature, at = objective.loss.max_curvature, objective.to_raw(v)
    return _estimate(
        objective, batch, n, window, v, lambda block: hessian_product(block, curvature * block.weights, *at)
    )


def prox_step(objective: Objective, w: Vector, gradient: Vector, step: float) -> Vector:
    """Return ``prox(w - step g)`` for the rough part of the penalty, (n_parameters,). Local."""
    return objective.whole_penalty.prox(w - step * gradient, step)
