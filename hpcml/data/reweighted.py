"""Rows whose weights follow their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator
from hpcml.data.block import Block, Dataset
from hpcml.data.partition import RowPartition

__all__ = ["Reweighted"]


class Reweighted:
    """A data set in which the weight of a row is multiplied by the factor of its label.

    Parameters
    ----------
    data : Dataset
    labels : (n_labels,) array
        In order. A row of another label must have weight zero, and keeps it.
    factors : (n_labels,) array
    """

    def __init__(self, data: Dataset, labels: NDArray[np.float64], factors: NDArray[np.float64]) -> None:
        self._data, self._labels, self._factors = data, labels, factors
        self._last: tuple[Block, Block] | None = None

    @property
    def comm(self) -> Communicator:
        """The ranks that share the rows. Local."""
        return self._data.comm

    @property
    def n_samples(self) -> int:
        """Number of selected rows over all ranks. Local."""
        return self._data.n_samples

    @property
    def n_features(self) -> int:
        """Number of columns of X. Local."""
        return self._data.n_features

    @property
    def partition(self) -> RowPartition:
        """The cut of the source rows into shards. Local."""
        return self._data.partition

    def blocks(self, shard: int | None = None) -> Iterator[Block]:
        """Yield this rank's rows as the data set does, with other weights. Local."""
        for block in self._data.blocks(shard):
            # Rows in memory are the same block at each pass, and keep their weights.
            if self._last is None or self._last[0] is not block:
                self._last = block, replace(block, weight=block.weights * self._factor(block.y))
            yield self._last[1]

    def _factor(self, y: NDArray[np.float64] | None) -> NDArray[np.float64]:
        assert y is not None, "weights that follow labels need labels"
        place = np.minimum(np.searchsorted(self._labels, y), self._labels.size - 1)
        return self._factors[place]
