"""Nearest centres against distances computed one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from hpcml.algorithms.kernels.nearest import cluster_sums, nearest
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset, Block


def block_of(X: np.ndarray, layout: str, weight: np.ndarray | None = None) -> Block:
    rows = sparse.csr_array(X) if layout == "csr" else X
    return next(ArrayDataset(rows, None, weight, comm=SerialCommunicator()).blocks())


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_labels_distances_and_sums(layout: str, dtype: type, k: int) -> None:
    rng = np.random.default_rng(0)
    X = np.where(rng.random((500, 6)) < 0.4, 0.0, rng.normal(size=(500, 6))).astype(dtype)
    centers, weight = rng.normal(size=(k, 6)), rng.integers(0, 4, 500).astype(float)
    block = block_of(X, layout, weight)
    found = nearest(block, centers)
    squared = np.square(X.astype(float)[:, None] - centers).sum(axis=2)
    np.testing.assert_array_equal(found.labels, squared.argmin(axis=1))
    np.testing.assert_allclose(found.distances, squared.min(axis=1), rtol=1e-12)
    total = np.concatenate(list(cluster_sums(block, found, k))).sum(axis=0)
    one_hot = np.eye(k)[found.labels] * weight[:, None]
    expected = [(one_hot.T @ X.astype(float)).ravel(), one_hot.sum(axis=0), [weight @ squared.min(axis=1)]]
    np.testing.assert_allclose(total, np.concatenate(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_equal_distances_go_to_the_first_centre(layout: str) -> None:
    X = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    centers = np.array([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    assert nearest(block_of(X, layout), centers).labels.tolist() == [1, 1, 1]


def test_a_rows_bits_are_its_own() -> None:
    rng = np.random.default_rng(1)
    X, centers = rng.normal(size=(40, 33)), rng.normal(size=(9, 33))
    whole = nearest(block_of(X, "dense"), centers)
    for i in range(len(X)):
        alone = nearest(block_of(X[i : i + 1], "dense"), centers[whole.labels[i]][None])
        assert alone.distances[0] == whole.distances[i]
