"""Bounds wherever they pay and fit."""

from __future__ import annotations

import pytest
from algorithms.blobs import blobs
from algorithms.problems import Grid

from hpcml.algorithms.clustering import choice
from hpcml.algorithms.clustering.assignment import Plain
from hpcml.algorithms.clustering.bounds import Bounds
from hpcml.algorithms.clustering.choice import choose_assignment


def test_the_way_by_name_and_by_memory(monkeypatch):
    data = Grid(blobs())
    assert choose_assignment("lloyd", data, 5, 1) is Plain
    assert choose_assignment("bounds", data, 1, 1) is Bounds
    assert choose_assignment("auto", data, 5, 1) is Bounds
    assert choose_assignment("auto", data, 1, 1) is Plain
    monkeypatch.setattr(choice, "_MOST_BYTES", 400 * 8)
    assert choose_assignment("auto", data, 5, 1) is Bounds
    assert choose_assignment("auto", data, 5, 2) is Plain
    assert choose_assignment("bounds", data, 5, 2) is Bounds


@pytest.mark.parametrize("k", [2, 100, 5000])
def test_bytes_are_as_documented(k):
    assert all(8 <= choice.row_bytes(k, d) <= 132 for d in (1, 10, 1000))
