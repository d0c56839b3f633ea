"""k-means by mini-batches: each centre is the mean of the rows that chose it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batches import Batch, make_batches
from hpcml.algorithms.clustering.reassignment import Drawn, draw, drawn_rows, place, starved
from hpcml.algorithms.kernels.nearest import cluster_sums, nearest
from hpcml.algorithms.reduction import Ballot, reduce_blocks, reduce_stream
from hpcml.data import Block, Dataset, own_runs

__all__ = [
    "MiniBatch",
    "MiniBatchProgress",
    "MiniBatchResult",
    "MiniBatchState",
    "inertia_of",
    "run_mini_batch",
    "start_mini_batch",
    "whole_batch",
]

Vector = NDArray[np.float64]


class MiniBatchState(NamedTuple):
    """Where the centres stand, the same on every rank.

    Attributes
    ----------
    centers : (k, n_features) array
    counts : (k,) array
        Weight of the rows that chose each centre.
    n_iter : int
        Batches so far.
    inertia : float
        Mean squared distance to the nearest centre, smoothed over batches; Inf before the first one.
    least : float
        The least that it was.
    n_worse : int
        Batches since then.
    shift : float
        Sum of the squares of what the last batch moved.
    window : array of int64
        Of the last reduction.
    """

    centers: Vector
    counts: Vector
    n_iter: int
    inertia: float
    least: float
    n_worse: int
    shift: float
    window: NDArray[np.int64]


class MiniBatchProgress(NamedTuple):
    """What a callback is told after each batch; `objective` is the smoothed inertia."""

    loop: MiniBatchState
    objective: float


class MiniBatchResult(NamedTuple):
    """What the walk over the batches found.

    Attributes
    ----------
    centers, counts : array
        As of MiniBatchState.
    n_iter : int
        Batches.
    n_epochs : int
        Passes over the data, the last one maybe not to its end.
    converged : bool
        The centres or the smoothed inertia stood still.
    reason : str
        Why the loop ended, a sentence.
    timed : bool
        Whether a time limit cut the run: then the bits are not promised.
    loop : MiniBatchState
    """

    centers: Vector
    counts: Vector
    n_iter: int
    n_epochs: int
    converged: bool
    reason: str
    timed: bool
    loop: MiniBatchState


@dataclass(frozen=True)
class MiniBatch:
    """``c <- c + sum_i s_i (x_i - c) / (count + sum_i s_i)`` over the rows i of a batch that chose c.

    So c is the mean of all rows that chose it, batch by batch. A batch takes its share from all over the
    data (see `Batches`). Weights scale sums and counts; but a row of weight 2 is in one batch, not in two, so
    it need not give the same bits as two rows.

    Parameters
    ----------
    batch_rows : int, optional
        Rows of a batch over all ranks, about; by default a 64th of all, at least 32.
    max_epochs : int
    tol : float
        Stop where a batch moved the centres by at most this, as a sum of squares; 0 is never.
    max_no_improvement : int, optional
        Stop where the smoothed inertia had no new minimum for that many batches.
    reassignment_ratio : float
        Centres whose count is below this share of the largest move to rows of the batch.
    seed : int
        Of batches and reassignments.

    References
    ----------
    Sculley, "Web-scale k-means clustering", WWW 2010, doi:10.1145/1772690.1772862.
    """

    batch_rows: int | None = None
    max_epochs: int = 100
    tol: float = 0.0
    max_no_improvement: int | None = 10
    reassignment_ratio: float = 0.01
    seed: int = 0

    def step(
        self, batch: Batch, state: MiniBatchState, smoothing: float = 1.0, ballot: Ballot | None = None
    ) -> MiniBatchState:
        """Return the state one batch later.

        Collective, one message of ``k (d + 1) + 1`` sums as a rule, and three small ones where centres move
        to rows.

        Parameters
        ----------
        batch : Batch
        state : MiniBatchState
        smoothing : float
            Share of the batch's inertia in the smoothed one.
        ballot : Ballot, optional
        """
        data, (k, d) = batch.data, state.centers.shape
        hungry = starved(state.counts, self.reassignment_ratio)
        drawn: list[Drawn] = []

        def terms(_: Iterator[Block]) -> Iterator[Vector]:
            drawn.clear()  # a sum may repeat
            for block in batch.blocks():
                found = nearest(block, state.centers)
                if hungry.size:
                    drawn.append(draw(block, found, hungry.size, self.seed, state.n_iter))
                yield from cluster_sums(block, found, k)

        window = state.window if state.window.size else None
        reduced = reduce_stream(data, terms, k * (d + 1) + 1, window=window, ballot=ballot)
        state = _moved(state, reduced.total, smoothing)._replace(window=reduced.window)
        if not hungry.size:
            return state
        rows = drawn_rows(data.comm, drawn, hungry.size, d)
        centers, counts = place(state.centers, state.counts, hungry, rows)
        return state._replace(centers=centers, counts=counts)


def start_mini_batch(centers: Vector) -> MiniBatchState:
    """Return the state in which no row was seen. Local."""
    nothing = np.zeros(0, np.int64)
    counts = np.zeros(len(centers))
    return MiniBatchState(np.array(centers, np.float64), counts, 0, np.inf, np.inf, 0, np.inf, nothing)


def whole_batch(data: Dataset) -> Batch:
    """Return all rows as one batch. Local."""
    shards = [shard for run in own_runs(data) for shard in data.partition.run(run)]
    return Batch(data, np.array(shards, np.int64), 1)


def run_mini_batch(
    data: Dataset,
    method: MiniBatch,
    centers: Vector,
    *,
    loop: MiniBatchState | None = None,
    callback: Callable[[MiniBatchProgress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    ballot: Ballot | None = None,
) -> MiniBatchResult:
    """Move `centers` over the batches until they, or the inertia, stand still.

    Collective, the messages of `MiniBatch.step` for each batch. All decisions follow reduced numbers.

    Parameters
    ----------
    data : Dataset
    method : MiniBatch
    centers : (k, n_features) array
        The start.
    loop : MiniBatchState, optional
        Where an earlier run stood: the answer has the bits of a run that was not interrupted.
    callback : callable
        Told of each batch.
    stopped : callable
        Says after each batch, from reduced numbers, whether the time limit has come.
    ballot : Ballot, optional
        Its votes go with each message.
    """
    state = loop or start_mini_batch(centers)
    batches = make_batches(data, method.batch_rows, method.seed)
    smoothing = min(1.0, 2.0 / batches.n)
    while True:
        epoch, done = divmod(state.n_iter, batches.n)
        for batch in islice(batches.epoch(epoch), done, None):
            end = _end(method, state, batches.n, stopped)
            if end:
                return _result(state, batches.n, end)
            state = method.step(batch, state, smoothing, ballot)
            callback(MiniBatchProgress(state, state.inertia))


def inertia_of(data: Dataset, centers: Vector) -> float:
    """Return ``sum_i s_i min_c |x_i - c|^2``. Collective, one pass and two messages."""

    def terms(block: Block) -> list[Vector]:
        return [block.shard_sums(block.weights * nearest(block, centers).distances)[:, None]]

    return float(reduce_blocks(data, terms, 1).total[0])


def _moved(state: MiniBatchState, sums: Vector, smoothing: float) -> MiniBatchState:
    """Return the state after the sums of a batch; one without weight changes nothing."""
    k, d = state.centers.shape
    total, weight, inertia = sums[: k * d].reshape(k, d), sums[k * d : -1], float(sums[-1])
    counts = state.counts + weight
    chosen = weight > 0
    change = np.zeros((k, d))
    change[chosen] = (total - weight[:, None] * state.centers)[chosen] / counts[chosen, None]
    centers, shift = state.centers + change, float(np.square(change).sum())
    state = state._replace(centers=centers, counts=counts, shift=shift, n_iter=state.n_iter + 1)
    return _smoothed(state, inertia / float(weight.sum()), smoothing) if chosen.any() else state


def _smoothed(state: MiniBatchState, inertia: float, smoothing: float) -> MiniBatchState:
    """Take in the mean inertia of a batch."""
    known = np.isfinite(state.inertia)
    mean = state.inertia + smoothing * (inertia - state.inertia) if known else inertia
    if mean < state.least:
        return state._replace(inertia=mean, least=mean, n_worse=0)
    return state._replace(inertia=mean, n_worse=state.n_worse + 1)


_STILL = "a batch moved the centres by at most tol"
_NO_BETTER = "the smoothed inertia had no new minimum for max_no_improvement batches"
_LATE = "the time limit was reached"


def _end(method: MiniBatch, state: MiniBatchState, n: int, stopped: Callable[[], bool]) -> str:
    """Return why the loop must end, or nothing."""
    if 0 < method.tol >= state.shift:
        return _STILL
    if method.max_no_improvement is not None and state.n_worse >= method.max_no_improvement:
        return _NO_BETTER
    if state.n_iter and stopped():
        return _LATE
    return "max_iter was reached" if state.n_iter >= method.max_epochs * n else ""


def _result(state: MiniBatchState, n: int, end: str) -> MiniBatchResult:
    converged, timed = end in (_STILL, _NO_BETTER), end == _LATE
    n_epochs = -(-state.n_iter // n)
    return MiniBatchResult(state.centers, state.counts, state.n_iter, n_epochs, converged, end, timed, state)
