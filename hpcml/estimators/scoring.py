"""How well a fitted model does on the rows of all ranks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning

from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.algorithms.target import check_labels
from hpcml.collectives import agreed
from hpcml.data import Block, Dataset
from hpcml.errors import DataError

__all__ = ["accuracy", "d2", "r2"]

Vector = NDArray[np.float64]


def _means(data: Dataset, n: int, terms: Callable[[Block, Vector], list[Any]]) -> Vector:
    """Return ``(sum_i s_i t_ik) / sum_i s_i`` for n terms t of each row.

    Collective, one pass and two messages.
    """

    def statistics(block: Block) -> Iterator[Vector]:
        assert block.y is not None
        weight = np.ones(block.n_rows) if block.weight is None else block.weight
        rows = np.stack([np.ones(block.n_rows), *terms(block, block.y)], axis=1)
        yield block.shard_sums(rows * weight[:, None])

    sums = reduce_blocks(data, statistics, n + 1).total
    if not sums[0] > 0:
        raise DataError("no row has a weight above zero: there is nothing to score")
    means: Vector = sums[1:] / sums[0]
    return means


def accuracy(data: Dataset, model: LinearModel) -> float:
    """Return the weighted share of rows whose class is predicted. Collective, one pass and two messages."""

    def terms(block: Block, y: Vector) -> list[Any]:
        z = raw_prediction(block, model.coef, model.intercept)
        return [model.predicted(z) == y]

    return float(_means(data, 1, terms)[0])


def r2(data: Dataset, model: LinearModel) -> float:
    """Return ``1 - sum s (y - z)^2 / sum s (y - mean y)^2``. Collective, two passes and four messages.

    As scikit-learn has it: NaN, with a warning, below two rows; 1 or 0 where y is constant.
    """
    if data.n_samples < 2:
        text = "R^2 score is not well-defined with less than two samples."
        warnings.warn(text, UndefinedMetricWarning, stacklevel=3)
        return float("nan")
    (mean,) = _means(data, 1, lambda block, y: [y])

    def terms(block: Block, y: Vector) -> list[Any]:
        z = raw_prediction(block, model.coef, model.intercept)
        return [np.square(y - z), np.square(y - mean)]

    error, spread = _means(data, 2, terms)
    return 1.0 - float(error / spread) if spread else float(error == 0)


def d2(data: Dataset, model: LinearModel) -> float:
    """Return ``1 - sum s D(y, predicted) / sum s D(y, m)`` with the deviance D of the model.

    m is the mean of y; with offsets, that of the best constant beside them.

    Collective, two passes, four messages and a small one. NaN, with a warning, below two rows; 1 or 0 where y
    is constant.

    Raises
    ------
    DataError
        A label that the deviance is not defined for.
    """
    loss = model.loss
    with agreed(data.comm):
        for block in data.blocks():
            check_labels(block, loss, "y")
    if data.n_samples < 2:
        text = "D^2 score is not well-defined with less than two samples."
        warnings.warn(text, UndefinedMetricWarning, stacklevel=3)
        return float("nan")
    grown, fallen = _means(data, 2, lambda block, y: [*loss.parts(block.offsets, y)])
    mean = float(fallen / grown)
    constant = loss.best_constant(mean) if loss.has_log_link else mean

    def terms(block: Block, y: Vector) -> list[Any]:
        z = raw_prediction(block, model.coef, model.intercept)
        least = loss.least(y)
        return [loss.terms(at, y).value - least for at in (z, constant + block.offsets)]

    found, null = _means(data, 2, terms)
    return 1.0 - float(found / null) if null > 0 else float(found <= 0)
