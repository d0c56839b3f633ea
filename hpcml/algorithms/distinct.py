"""The distinct values of an array, without sorting it where there are but two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Two", "distinct", "find_two"]

Two = tuple[NDArray[Any], NDArray[np.bool_]]


def find_two(values: NDArray[Any]) -> Two | None:
    """Return the two values that numbers have, in order, and which are the second; None if not two. Local.

    A NaN is no value. One of 0.0 and -0.0 stands for both.
    """
    if values.size == 0:
        return None
    low, high = values.min(), values.max()
    is_high = values == high
    n_high = np.count_nonzero(is_high)
    if low == high or n_high + np.count_nonzero(values == low) < values.size:
        return None
    return np.array([low, high], values.dtype), is_high


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct numbers in order, (any,). Local."""
    two = find_two(values)
    return np.unique(values) if two is None else two[0]
