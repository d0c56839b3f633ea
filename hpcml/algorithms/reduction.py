"""The one function where data meets communication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives.reproducible import Reduced, reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import CollectiveError

__all__ = ["Ballot", "Statistics", "Stream", "reduce_blocks", "reduce_stream"]

Statistics = Callable[[Block], Iterable[NDArray[np.float64]]]
Stream = Callable[[Iterator[Block]], Iterable[NDArray[np.float64]]]


def _no_votes() -> Sequence[int]:
    return ()


@dataclass
class Ballot:
    """Votes that ride on every reduction: stop, deadline, checkpoint.

    Attributes
    ----------
    cast : callable
        Gives this process's votes, integers; always the same number of them.
    result : tuple of int
        Their sums over all ranks in the last reduction.
    """

    cast: Callable[[], Sequence[int]] = _no_votes
    result: tuple[int, ...] = ()
    sequence: int = field(default=0, repr=False)


def reduce_blocks(
    data: Dataset,
    statistics: Statistics,
    n: int,
    *,
    window: NDArray[np.int64] | None = None,
    ballot: Ballot | None = None,
) -> Reduced:
    """Sum a statistic of every shard over all ranks: one pass over my rows, one message.

    Collective, one message (two without a `window`, and when the terms miss it). `statistics` is
    called again where the sum repeats.

    Parameters
    ----------
    data : Dataset
    statistics : callable
        Takes a Block, a run of whole shards, and gives arrays of shape (any, n): one row, a partial, for each
        shard in order.
    n : int
        Elements of a partial.
    window : (n,) array of int64, optional
        That of the last reduction of this kind.
    ballot : Ballot, optional
        Its votes go with the message.

    Returns
    -------
    Reduced
        The sum (n,) and the window for the next call.

    Raises
    ------
    CollectiveError
        Ranks are in different reductions.
    """

    def terms(blocks: Iterator[Block]) -> Iterator[NDArray[np.float64]]:
        for block in blocks:
            yield from statistics(block)

    return reduce_stream(data, terms, n, window=window, ballot=ballot)


def reduce_stream(
    data: Dataset,
    terms: Stream,
    n: int,
    *,
    window: NDArray[np.int64] | None = None,
    ballot: Ballot | None = None,
) -> Reduced:
    """Sum, over all ranks, what a pass over my rows gives: as `reduce_blocks`, for terms of several blocks.

    Collective, as `reduce_blocks`. `terms` takes the blocks of a pass in order and gives arrays of shape
    (any, n); where a term spans blocks, its rows must not depend on how blocks are cut.
    """
    ballot = ballot or Ballot()
    ballot.sequence += 1
    counts = [1, ballot.sequence, *ballot.cast()]
    reduced = reduce_partials(data.comm, lambda: terms(data.blocks()), n, window, counts)
    voters, sequences, *votes = reduced.counts
    if sequences != voters * ballot.sequence:
        raise CollectiveError(f"ranks are in different reductions: this one is in number {ballot.sequence}")
    ballot.result = tuple(votes)
    return reduced
