"""Centres that are added in steps: the nearest of them as if they had come at once."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import blobs
from algorithms.problems import SERIAL, Grid, as_csr

from hpcml.algorithms.clustering import growing
from hpcml.algorithms.clustering.growing import GrowingNearest
from hpcml.algorithms.kernels.nearest import nearest
from hpcml.data import ArrayDataset, run_of


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
@pytest.mark.parametrize("keeps", [True, False])
def test_as_if_they_had_come_at_once(make, keeps, monkeypatch):
    monkeypatch.setattr(growing, "_MOST_BYTES", 12 * 400 if keeps else 0)
    problem = blobs()
    data = Grid(make(problem))
    (block,) = data.blocks()
    centers = np.concatenate([problem.X[:9], problem.X[3:6]])  # some of them twice
    found = GrowingNearest(data, 1)
    for step in (centers[:1], centers[1:5], centers[5:5], centers[5:]):
        found.add(step)
        for part in (block, block, run_of(block, 0, 3), run_of(block, 3, 13)):
            expected = nearest(part, found.centers)
            ours = found.nearest(part)
            assert ours.labels.tolist() == expected.labels.tolist()
            assert ours.distances.tobytes() == expected.distances.tobytes()


def test_only_new_centres_are_compared(monkeypatch):
    seen = []
    monkeypatch.setattr(growing, "nearest", lambda block, c: seen.append(len(c)) or nearest(block, c))
    data = ArrayDataset(blobs().X, comm=SERIAL)
    found = GrowingNearest(data, 1)
    for n in (1, 5, 0, 7):
        found.add(blobs().X[:n])
        for block in data.blocks():
            found.nearest(block)
    assert seen == [1, 5, 7]
