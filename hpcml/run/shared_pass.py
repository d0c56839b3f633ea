"""A pass over the rows that two share: reading is what an index costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset

__all__ = ["SharedPass"]

Terms = Callable[[Block], Iterable[NDArray[np.float64]]]


class SharedPass:
    """The rows of a data set, whose first pass is heard by a sum as well. A Dataset.

    A term a shard is kept: at most one part in 64 of what is read.

    Parameters
    ----------
    data : Dataset
    terms : callable
        Takes a block and gives arrays of shape (any, n), a row a shard.
    """

    def __init__(self, data: Dataset, terms: Terms) -> None:
        self.comm, self.partition = data.comm, data.partition
        self.n_samples, self.n_features = data.n_samples, data.n_features
        self._data = data
        self._terms = terms
        self._kept: list[NDArray[np.float64]] | None = None

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield my rows in order as runs of whole shards, or one shard of mine. Local."""
        is_first = shard is None and self._kept is None
        if is_first:
            self._kept = []
        for block in self._data.blocks(shard):
            yield block  # whoever checks rows does so before they are added
            if is_first:
                self._hear(block)

    def _hear(self, block: Block) -> None:
        assert self._kept is not None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            self._kept.extend(self._terms(block))

    def total(self, n: int) -> NDArray[np.float64]:
        """Return the sum of all terms, (n,). Collective: two small messages, and a pass if there was none.

        Raises
        ------
        DataError
            Rows cannot be read.
        """
        with agreed(self.comm):
            if self._kept is None:
                for _ in self.blocks():
                    pass
        kept = self._kept or []
        return reduce_partials(self.comm, lambda: kept, n).total
