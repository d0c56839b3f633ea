"""Two numbers become labels without sorting, as scikit-learn and NumPy would have them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.multiclass import type_of_target

from hpcml.errors import DataError
from hpcml.estimators.labels import find_labels

WEIGHT = np.array([0.0, 2.0, 1.0, 0.0, 3.0])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, np.float64, "U1"])
@pytest.mark.parametrize("values", [[0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 3, 2, 0, 1]])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_as_numpy_sorts_them(values, dtype, weight):
    y = np.array(values).astype(dtype)
    found = find_labels(y, weight)
    expected = np.unique(y)
    weighing = np.unique(y if weight is None else y[weight != 0])
    assert found.distinct.tolist() == expected.tolist()
    assert found.distinct.dtype == y.dtype
    assert found.counted.tolist() == np.isin(expected, weighing).tolist()
    known = [expected.tolist().index(label) for label in y.tolist()]
    assert found.codes(expected).tolist() == known
    assert found.codes(expected[1:]).tolist() == [code - 1.0 for code in known]


@pytest.mark.parametrize(
    "pair", [(0.0, 1.5), (0.25, 0.75), (-1.0, 1.0), (-2.0, 7.0), (0.0, 1e300), (1.0, np.inf)]
)
def test_what_is_no_label(pair):
    y = np.array(pair)
    with np.errstate(invalid="ignore"):
        try:
            is_label = type_of_target(y) == "binary"
        except ValueError:
            is_label = False
    if is_label:
        assert find_labels(y, None).distinct.tolist() == list(pair)
        return
    with np.errstate(invalid="ignore"), pytest.raises(ValueError):
        find_labels(y, None)


def test_long_doubles_are_no_labels():
    with pytest.raises(DataError, match="labels must be"):
        find_labels(np.array([0, 1], np.longdouble), None)
