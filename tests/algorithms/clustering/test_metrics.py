"""Inertia and silhouette against their formulas and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.blobs import blobs, plain_inertia, squared
from algorithms.problems import Grid, Problem, as_csr
from sklearn.metrics import silhouette_score

from hpcml.algorithms.clustering.metrics import inertia, silhouette
from hpcml.collectives import run_threads
from hpcml.errors import DataError

CENTERS = blobs(5, seed=4).X


@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_inertia(make):
    problem = blobs(weighted=True)
    expected = inertia(Grid(make(problem)), CENTERS)
    assert expected == pytest.approx(plain_inertia(problem, CENTERS), rel=1e-13)
    assert set(run_threads(3, lambda comm: inertia(Grid(make(problem), comm), CENTERS))) == {expected}


def test_silhouette_of_all_rows_is_scikit_learns():
    problem = blobs()
    labels = squared(problem.X, CENTERS).argmin(axis=1)
    expected = silhouette(Grid(problem), CENTERS)
    assert expected == pytest.approx(silhouette_score(problem.X, labels), rel=1e-12)
    assert set(run_threads(3, lambda comm: silhouette(Grid(problem, comm), CENTERS))) == {expected}


def test_silhouette_of_a_sample():
    problem = blobs(3000, spread=0.3)
    centers = np.array([problem.X[i] for i in range(5)])
    whole = silhouette(Grid(problem), centers, n_rows=3000)
    samples = [silhouette(Grid(problem), centers, n_rows=500, seed=seed) for seed in range(3)]
    assert len(set(samples)) == 3
    assert samples == pytest.approx([whole] * 3, abs=0.06)
    found = run_threads(5, lambda comm: silhouette(Grid(problem, comm), centers, n_rows=500, seed=1))
    assert set(found) == {samples[1]}


def test_a_cluster_of_one_row_counts_zero():
    X = np.array([[0.0], [1.0], [10.0]])
    data = Grid(Problem(X, np.zeros(3), None))
    centers = np.array([[0.5], [10.0]])
    assert silhouette(data, centers) == pytest.approx(silhouette_score(X, [0, 0, 1]))


@pytest.mark.parametrize(("centers", "found"), [(CENTERS[:1], 1), (blobs(8).X, 8)])
def test_too_few_and_too_many_clusters(centers, found):
    with pytest.raises(DataError, match=f"2 to 7 clusters in its 8 rows, and found {found}"):
        silhouette(Grid(blobs(8)), centers)
