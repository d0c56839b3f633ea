"""What a loss needs to know of the labels before a fit: their range, mean and the deviance's zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.losses import Loss
from hpcml.collectives import agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import DataError

__all__ = ["NO_TARGET", "Target", "check_labels", "look_at_target"]

_RANGES = {True: "at least 0", False: "above 0"}


class Target(NamedTuple):
    """Weighted means over all rows.

    Attributes
    ----------
    mean : float
        Of y.
    least : float
        Of the smallest value that the loss has at a row.
    """

    mean: float
    least: float


NO_TARGET = Target(0.0, 0.0)


def look_at_target(data: Dataset, loss: Loss, name: str = "y") -> Target:
    """Return what `loss` needs of y, having refused labels that it is not defined for.

    Collective: nothing but for a log link, else one pass, two messages and a small one.

    Parameters
    ----------
    data : Dataset
    loss : Loss
    name : str
        What y is called in errors.

    Raises
    ------
    DataError
        A label out of range; it names the first row of the lowest rank that has one.
    """
    if not loss.has_log_link:
        return NO_TARGET
    with agreed(data.comm):
        parts = [_shard_sums(block, loss, name) for block in data.blocks()]
    weight, mean, least = reduce_partials(data.comm, lambda: parts, 3).total.tolist()
    return Target(mean / weight, least / weight)


def check_labels(block: Block, loss: Loss, name: str) -> None:
    """Refuse a label that a loss is not defined for. Local.

    Raises
    ------
    DataError
        It names the first row that has one.
    """
    assert block.y is not None
    bad = ~loss.in_range(block.y)
    if bad.any():
        row = int(np.argmax(bad))
        wanted = _RANGES[bool(loss.in_range(np.zeros(1))[0])]
        label = f"{name}: row {block.index[row]} is {block.y[row]:g}"
        raise DataError(f"{label}, but the {loss.name} loss takes labels {wanted}")


def _shard_sums(block: Block, loss: Loss, name: str) -> NDArray[np.float64]:
    check_labels(block, loss, name)
    y = block.y
    assert y is not None
    rows = np.stack([np.ones_like(y), y, loss.least(y)], axis=1)
    return block.shard_sums(rows * block.weights[:, None])
