"""Several arrays in one buffer, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcml.collectives.packing import pack, pieces, unpack

shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@given(shapes=shapes, integer=st.booleans(), limit=st.integers(1, 200))
def test_round_trip(shapes, integer, limit):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.int64 if integer else np.float64) for shape in shapes]
    buffer = pack(arrays)
    assert not any(np.shares_memory(buffer, array) for array in arrays)
    cut = list(pieces(buffer, limit))
    assert all(piece.nbytes <= max(limit, 8) for piece in cut)
    assert sum(piece.size for piece in cut) == buffer.size
    for piece in cut:
        piece += 1  # a view: what MPI reduces in place arrives in the buffer
    back = unpack(buffer, arrays)
    assert [array.shape for array in back] == [array.shape for array in arrays]
    assert all((got == given + 1).all() for got, given in zip(back, arrays, strict=True))


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [np.ones(1, np.float32)],
        [np.ones(1, bool)],
        [np.ones(1, np.int32)],
        [np.ones(1, ">f8")],
        [np.ones(1, complex)],
        [np.ones(1), np.ones(1, np.int64)],
    ],
)
def test_other_dtypes_are_refused(arrays):
    with pytest.raises(TypeError, match="int64 or float64"):
        pack(arrays)


def test_strides_do_not_matter():
    array = np.arange(12.0).reshape(3, 4)
    assert pack([array.T, array[::-2, ::2]]).tolist() == [*array.T.ravel(), *array[::-2, ::2].ravel()]
