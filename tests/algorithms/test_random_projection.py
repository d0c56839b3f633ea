"""Random projections: the matrix against its definition, products by slabs, rows that do not meet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.random_projection import johnson_lindenstrauss_min_dim as twin

from hpcml.algorithms import random_projection
from hpcml.algorithms.random_projection import (
    GaussianMatrix,
    SparseMatrix,
    components,
    johnson_lindenstrauss_min_dim,
    project,
)

MATRICES = [GaussianMatrix(150, 20, 3), SparseMatrix(150, 20, 0.2, 3), SparseMatrix(150, 20, 1.0, 3)]
each = pytest.mark.parametrize("matrix", MATRICES, ids=["gaussian", "sparse", "signs"])


def rows(n=600, d=150, dtype=np.float64):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.3)).astype(dtype)


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else matrix


@each
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_projection_is_a_product(matrix, layout, dtype, monkeypatch):
    X = rows(dtype=dtype)
    expected = X.astype(float) @ dense(components(matrix)).T
    rtol, atol = (1e-12, 1e-13) if dtype == np.float64 else (1e-4, 1e-5)
    for slab_bytes in (32 << 20, 1):
        monkeypatch.setattr(random_projection, "SLAB_BYTES", slab_bytes)
        found = project(layout(X), matrix)
        assert found.dtype == dtype
        assert sparse.issparse(found) == (layout is sparse.csr_array and isinstance(matrix, SparseMatrix))
        np.testing.assert_allclose(dense(found), expected, rtol=rtol, atol=atol)


@each
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rows_bits_are_its_own(matrix, layout, dtype):
    X = layout(rows(dtype=dtype))
    whole = dense(project(X, matrix))
    for start, stop in ((0, 1), (1, 256), (255, 600), (599, 600), (300, 300)):
        assert np.array_equal(dense(project(X[start:stop], matrix)), whole[start:stop])


def test_normal_elements():
    matrix = components(GaussianMatrix(1000, 50)) * np.sqrt(50)
    assert stats.kstest(matrix.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(matrix) - np.eye(50)).max() < 0.2
    other = components(GaussianMatrix(1000, 50, 1)) * np.sqrt(50)
    assert abs(np.corrcoef(matrix.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("density", [0.03, 0.5, 1.0])
def test_sparse_elements(density):
    matrix = components(SparseMatrix(1000, 50, density))
    assert sparse.issparse(matrix)
    assert matrix.nnz == np.count_nonzero(matrix.toarray())
    assert stats.binomtest(matrix.nnz, 50_000, density).pvalue > 1e-3
    assert np.allclose(np.abs(matrix.data), 1 / np.sqrt(density * 50))
    assert stats.binomtest(int((matrix.data > 0).sum()), matrix.nnz).pvalue > 1e-3
    assert np.linalg.norm(matrix.toarray()) ** 2 == pytest.approx(1000, rel=0.05)


def test_a_features_elements_are_keyed_by_its_number():
    narrow, wide = (components(GaussianMatrix(d, 7, 5)) for d in (100, 1000))
    assert np.array_equal(wide[:, :100], narrow)
    narrow, wide = (components(SparseMatrix(d, 7, 0.3, 5)) for d in (128, 1000))
    assert np.array_equal(wide[:, :128].toarray(), narrow.toarray())


def test_distances_are_kept():
    eps, X = 0.5, rows(40, 3000)
    k = int(johnson_lindenstrauss_min_dim(40, eps=eps))
    i, j = np.triu_indices(40, 1)
    before = np.square(X[i] - X[j]).sum(axis=1)
    for matrix in (GaussianMatrix(3000, k), SparseMatrix(3000, k, 1 / np.sqrt(3000))):
        Z = np.asarray(project(X, matrix))
        ratio = np.square(Z[i] - Z[j]).sum(axis=1) / before
        assert 1 - eps < ratio.min() < ratio.max() < 1 + eps


def test_the_number_of_components():
    n, eps = np.array([2, 100, 10**6, 10**12]), np.array([0.01, 0.1, 0.5, 0.99])
    assert np.array_equal(johnson_lindenstrauss_min_dim(n, eps=eps), twin(n, eps=eps))
    assert johnson_lindenstrauss_min_dim(10**6) == twin(10**6)
    for wrong in ((100, 0.0), (100, 1.0), (0, 0.1)):
        with pytest.raises(ValueError, match="must be above 0"):
            johnson_lindenstrauss_min_dim(wrong[0], eps=wrong[1])
