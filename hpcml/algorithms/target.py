"""What a loss needs to know of the labels before a fit: their range, mean and the deviance's zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.losses import Loss
from hpcml.collectives import agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import DataError, shared

__all__ = ["NO_TARGET", "Target", "check_labels", "look_at_target"]

_LEAST_SIZE = 1e-280
"""Beyond it and its inverse, exponentials of offsets are held or vanish (losses/log_link.py)."""
_RANGES = {True: "at least 0", False: "above 0"}


class Target(NamedTuple):
    """Weighted means over all rows.

    Attributes
    ----------
    mean : float
        Of y; with offsets ``exp(b)`` of the best constant b beside them.
    least : float
        Of the smallest value that the loss has at a row.
    size : float
        Of A in the loss's slope ``A - B`` at ``z = offset``; 1 without offsets.
    """

    mean: float
    least: float
    size: float = 1.0


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
        A label out of range; it names the first row of the lowest rank that has one. Or offsets whose
        exponential is no number.
    """
    if not loss.has_log_link:
        return NO_TARGET
    with agreed(data.comm):
        parts = [_shard_sums(block, loss, name) for block in data.blocks()]
    weight, grown, fallen, least = reduce_partials(data.comm, lambda: parts, 4).total.tolist()
    if not (_LEAST_SIZE < grown / weight < 1 / _LEAST_SIZE and np.isfinite(fallen)):
        far = "the offsets are so far from 0 that their exponentials are no numbers"
        raise shared(DataError(f"{far}; subtract a constant from all of them"))
    return Target(fallen / grown, least / weight, grown / weight)


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
    rows = np.stack([np.ones_like(y), *loss.parts(block.offsets, y), loss.least(y)], axis=1)
    return block.shard_sums(rows * block.weights[:, None])
