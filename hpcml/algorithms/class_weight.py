"""Weights of classes: given, or balanced."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block, Dataset
from hpcml.data.reweighted import Reweighted
from hpcml.errors import SpecError, shared

__all__ = ["ClassWeight", "class_factors", "reweighted"]

Vector = NDArray[np.float64]
ClassWeight = Mapping[float, float] | str
"""Weights by class, 1 for a class that is not there; or "balanced"."""


def reweighted(data: Dataset, classes: Vector, wanted: ClassWeight) -> tuple[Dataset, float]:
    """Return the rows with the weights of their classes, and the sum of all weights.

    Collective: one pass, two messages.

    Parameters
    ----------
    data : Dataset
    classes : (n_classes,) array
        Labels of all rows that weigh, in order.
    wanted : mapping or "balanced"

    Raises
    ------
    SpecError
        A weight is for no class while a class has none, or nothing weighs any more.
    """

    def sums(block: Block) -> list[Vector]:
        assert block.y is not None
        return [block.shard_sums((block.y[:, None] == classes) * block.weights[:, None])]

    totals = reduce_blocks(data, sums, classes.size).total
    factors = class_factors(classes, totals, wanted)
    total = float(factors @ totals)
    if not total > 0:
        raise shared(SpecError("class_weight: the weights of all classes are zero"))
    return Reweighted(data, classes, factors), total


def class_factors(classes: Vector, totals: Vector, wanted: ClassWeight) -> Vector:
    """Return the factor of each class, (n_classes,). Local.

    "balanced" is ``sum s / (n_classes * sum s of the class)``; with weights s of one that is scikit-learn's
    ``n_samples / (n_classes * bincount(y))``.
    """
    if isinstance(wanted, str):
        return np.asarray(totals.sum() / (totals.size * totals))
    missing = [f"{label:g}" for label in classes.tolist() if label not in wanted]
    strange = [f"{label:g}" for label in wanted if label not in classes]
    if strange and missing:
        sentence = f"class_weight: {', '.join(strange)} is no class, and {', '.join(missing)} has no weight"
        raise shared(SpecError(sentence))
    return np.array([wanted.get(label, 1.0) for label in classes.tolist()], np.float64)
