"""Files that tests of reading share."""

from __future__ import annotations

import numpy as np
import pytest
import stores


@pytest.fixture
def three(tmp_path):
    """Three files of other lengths, types and ways to store, and their rows one after another."""
    parts = [
        stores.matrix("<i2", n=100),
        stores.matrix("<f4", n=7, seed=1),
        stores.matrix("<f8", n=250, seed=2),
    ]
    options = [{}, {}, {"chunks": (32, 6), "compression": "gzip"}]
    paths = [
        stores.put(tmp_path / f"part{i}.h5", part, **keys)
        for i, (part, keys) in enumerate(zip(parts, options, strict=True))
    ]
    return paths, np.concatenate(parts)
