"""Two values are found without sorting, as sorting finds them."""

from __future__ import annotations

import numpy as np
import pytest

from hpcml.algorithms.distinct import distinct, find_two


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("values", [[], [1], [1, 1], [0, 1, 0], [1, 0], [1, 0, 2, 1], [0, 2, 1]])
def test_as_sorting_finds_them(values, dtype):
    array = np.array(values, dtype)
    expected, place = np.unique(array, return_inverse=True)
    assert distinct(array).tolist() == expected.tolist()
    two = find_two(array)
    assert (two is None) == (expected.size != 2)
    if two is not None:
        assert two[0].dtype == dtype
        assert two[0].tolist() == expected.tolist()
        assert two[1].tolist() == place.astype(bool).tolist()


def test_what_is_no_pair():
    assert find_two(np.array([0.0, 1.0, np.nan])) is None
    assert find_two(np.array([0.0, -0.0, 0.0])) is None
    assert find_two(np.array([-0.0, 0.0, 1.0]))[1].tolist() == [False, False, True]
