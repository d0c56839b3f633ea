"""k-means by mini-batches: each centre is the mean of the rows that chose it lately."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.batches import Batch, make_batches
from hpcml.algorithms.clustering.least_rows import LeastRows
from hpcml.algorithms.clustering.reassignment import drawing, place, starved
from hpcml.algorithms.kernels.nearest import cluster_sums, lloyd_sums, n_cluster_sums, nearest
from hpcml.algorithms.reduction import Ballot, reduce_blocks, reduce_stream
from hpcml.data import Block, Dataset, own_runs

__all__ = [
    "MiniBatch",
    "MiniBatchProgress",
    "MiniBatchResult",
    "MiniBatchState",
    "run_mini_batch",
    "start_mini_batch",
    "whole_batch",
]

Vector = NDArray[np.float64]
_LEAST_MEMORY = 1000
"""Rows that a centre remembers, about: the mean of so many adds a thousandth to the inertia."""


class MiniBatchState(NamedTuple):
    """Where the centres stand, the same on every rank.

    Attributes
    ----------
    centers : (k, n_features) array
    counts : (k,) array
        Weight of the rows that chose each centre, less what is forgotten.
    n_iter : int
        Batches so far.
    inertia : float
        Mean squared distance to the nearest centre, smoothed over batches; Inf before the first one.
    least : float
        The least that it was.
    n_worse : int
        Batches since then.
    shift : float
        Squared distance that all centres together moved in the last batch.
    threshold : float
        The walk ends where that is at most this; 0 is never.
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
    threshold: float
    window: NDArray[np.int64]


class MiniBatchProgress(NamedTuple):
    """What a callback is told after each batch; `objective` is the smoothed inertia."""

    loop: MiniBatchState
    objective: float

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for a journal. Local."""
        return {"smoothed_inertia": self.objective, "squared_shift": self.loop.shift}

    @property
    def sentence(self) -> str:
        """The same for a reader. Local."""
        return f"smoothed inertia {self.objective:.8g}   squared shift {self.loop.shift:.1e}"


class MiniBatchResult(NamedTuple):
    """What the walk over the batches found.

    Attributes
    ----------
    centers : (k, n_features) array
    sizes : (k,) array
        Sums of the weights of the rows that are nearest to each.
    inertia : float
        ``sum s |x - c|^2`` over all rows and their nearest centres.
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
    sizes: Vector
    inertia: float
    n_iter: int
    n_epochs: int
    converged: bool
    reason: str
    timed: bool
    loop: MiniBatchState


@dataclass(frozen=True)
class MiniBatch:
    """``c <- c + sum_i s_i (x_i - c) / (count + sum_i s_i)`` over the rows i of a batch that chose c.

    So c is the mean of all rows that chose it, batch by batch: Sculley's rule, that of a single `step`. Rows
    that chose it when it was far from where it is stay in that mean, so a walk over batches forgets them:
    counts fall by a factor of ``1 - rows of a batch / memory`` before each, where the memory is a quarter of
    the rows, at least 1,000 for each centre. An epoch is then worth some five passes of Lloyd's iteration,
    and later ones go on as it does.

    A batch takes its share from all over the data (see `Batches`). Weights scale sums and counts; but a row
    of weight 2 is in one batch, not in two, so it need not give the same bits as two rows.

    Parameters
    ----------
    batch_rows : int, optional
        Rows of a batch over all ranks, about; by default a 64th of all, at least 32.
    max_epochs : int
    max_no_improvement : int, optional
        Stop where the smoothed inertia had no new minimum for that many batches.
    reassignment_ratio : float
        Centres whose count is below this share of the largest move to rows of the batch.
    seed : int
        Of batches and reassignments.

    References
    ----------
    Sculley, "Web-scale k-means clustering", WWW 2010, doi:10.1145/1772690.1772862. Spark's streaming k-means
    has the same way to forget.
    """

    batch_rows: int | None = None
    max_epochs: int = 100
    max_no_improvement: int | None = 10
    reassignment_ratio: float = 0.01
    seed: int = 0

    def step(
        self,
        batch: Batch,
        state: MiniBatchState,
        *,
        smoothing: float = 1.0,
        kept: float = 1.0,
        ballot: Ballot | None = None,
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
        kept : float
            What counts are multiplied by before.
        ballot : Ballot, optional
        """
        data, (k, d) = batch.data, state.centers.shape
        state = state._replace(counts=kept * state.counts)
        hungry = starved(state.counts, self.reassignment_ratio)
        drawn = LeastRows(hungry.size, d)

        def terms(_: Iterator[Block]) -> Iterator[Vector]:
            nonlocal drawn
            drawn = LeastRows(hungry.size, d)  # a sum may repeat
            for block in batch.blocks():
                if not hungry.size:
                    yield from lloyd_sums(block, state.centers)
                    continue
                found = nearest(block, state.centers)
                drawn.see(block, drawing(found, self.seed, state.n_iter)(block))
                yield from cluster_sums(block, found, k)

        window = state.window if state.window.size else None
        reduced = reduce_stream(data, terms, n_cluster_sums(k, d), window=window, ballot=ballot)
        state = _moved(state, reduced.total, smoothing)._replace(window=reduced.window)
        if not hungry.size:
            return state
        centers, counts = place(state.centers, state.counts, hungry, drawn.gathered(data.comm).X)
        return state._replace(centers=centers, counts=counts)


def start_mini_batch(centers: NDArray[Any], threshold: float = 0.0) -> MiniBatchState:
    """Return the state in which no row was seen. Local."""
    window, counts = np.zeros(0, np.int64), np.zeros(len(centers))
    at = np.array(centers, np.float64)
    return MiniBatchState(at, counts, 0, np.inf, np.inf, 0, np.inf, threshold, window)


def whole_batch(data: Dataset) -> Batch:
    """Return all rows as one batch. Local."""
    shards = [shard for run in own_runs(data) for shard in data.partition.run(run)]
    return Batch(data, np.array(shards, np.int64), 1)


def run_mini_batch(
    data: Dataset,
    method: MiniBatch,
    loop: MiniBatchState,
    *,
    callback: Callable[[MiniBatchProgress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    ballot: Ballot | None = None,
) -> MiniBatchResult:
    """Move centres over the batches until they, or the inertia, stand still.

    Collective: the messages of `MiniBatch.step` for each batch, and two at the end, of a pass over all rows.
    All decisions follow reduced numbers.

    Parameters
    ----------
    data : Dataset
    method : MiniBatch
    loop : MiniBatchState
        A start, or where an earlier run stood: the answer has the bits of a run that was not interrupted.
    callback : callable
        Told of each batch.
    stopped : callable
        Says after each batch, from reduced numbers, whether the time limit has come.
    ballot : Ballot, optional
        Its votes go with each message.
    """
    state, batches = loop, make_batches(data, method.batch_rows, method.seed)
    rates = {"smoothing": min(1.0, 2.0 / batches.n), "kept": _kept(data, batches.n, len(loop.centers))}
    while True:
        epoch, done = divmod(state.n_iter, batches.n)
        for batch in islice(batches.epoch(epoch), done, None):
            end = _end(method, state, batches.n, stopped)
            if end:
                return _result(data, state, batches.n, end)
            state = method.step(batch, state, **rates, ballot=ballot)
            callback(MiniBatchProgress(state, state.inertia))


def _kept(data: Dataset, n_batches: int, k: int) -> float:
    """Return what counts are multiplied by before a batch."""
    memory = max(data.n_samples / 4, _LEAST_MEMORY * k)
    return 1.0 - min(1.0, data.n_samples / n_batches / memory)


def _moved(state: MiniBatchState, sums: Vector, smoothing: float) -> MiniBatchState:
    """Return the state after the sums of a batch; one without weight changes nothing."""
    k, d = state.centers.shape
    total, weight, inertia = sums[: k * d].reshape(k, d), sums[k * d : -1], float(sums[-1])
    state, chosen = state._replace(n_iter=state.n_iter + 1), weight > 0
    if not chosen.any():
        return state
    counts, change = state.counts + weight, np.zeros((k, d))
    change[chosen] = (total - weight[:, None] * state.centers)[chosen] / counts[chosen, None]
    shift = float(np.square(change).sum())
    state = state._replace(centers=state.centers + change, counts=counts, shift=shift)
    return _smoothed(state, inertia / float(weight.sum()), smoothing)


def _smoothed(state: MiniBatchState, inertia: float, smoothing: float) -> MiniBatchState:
    """Take in the mean inertia of a batch."""
    known = np.isfinite(state.inertia)
    mean = state.inertia + smoothing * (inertia - state.inertia) if known else inertia
    if mean < state.least:
        return state._replace(inertia=mean, least=mean, n_worse=0)
    return state._replace(inertia=mean, n_worse=state.n_worse + 1)


_STILL = "a batch moved the centres by no more than tol allows"
_NO_BETTER = "the smoothed inertia had no new minimum for as many batches as were allowed"
_LATE = "the time limit was reached"


def _end(method: MiniBatch, state: MiniBatchState, n: int, stopped: Callable[[], bool]) -> str:
    """Return why the loop must end, or nothing."""
    if 0 < state.threshold >= state.shift:
        return _STILL
    if method.max_no_improvement is not None and state.n_worse >= method.max_no_improvement:
        return _NO_BETTER
    if state.n_iter and stopped():
        return _LATE
    return "max_iter was reached" if state.n_iter >= method.max_epochs * n else ""


def _result(data: Dataset, state: MiniBatchState, n: int, end: str) -> MiniBatchResult:
    """Return the result with sizes and inertia over all rows. Collective, one pass and two messages."""
    k, d = state.centers.shape
    sums = reduce_blocks(data, lambda block: lloyd_sums(block, state.centers), n_cluster_sums(k, d)).total
    found = state.centers, sums[k * d : -1], float(sums[-1]), state.n_iter, -(-state.n_iter // n)
    return MiniBatchResult(*found, end in (_STILL, _NO_BETTER), end, end == _LATE, state)
