"""Synthetic rows: functions of their numbers alone, drawn from the truth that they come with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from hpcml.data.synthetic import Synthetic, generator, make_truth
from hpcml.data.synthetic_rows import (
    columns_of,
    count_entries,
    dense_block,
    sparse_block,
    sparse_columns,
)
from hpcml.errors import SpecError

KINDS = ("classification", "regression", "counts", "blobs", "sparse")


def dense(settings: Synthetic) -> dict[str, np.ndarray]:
    truth = make_truth(settings)
    blocks = [dense_block(settings, truth, block) for block in range(settings.n_blocks)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def csr(settings: Synthetic) -> sparse.csr_array:
    blocks = [sparse_block(settings, block) for block in range(settings.n_blocks)]
    counts = np.concatenate([count_entries(settings, block) for block in range(settings.n_blocks)])
    data, indices = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((data, indices, indptr), shape=(settings.rows, settings.features))


def labels(settings: Synthetic) -> np.ndarray:
    truth = make_truth(settings)
    parts = [sparse_columns(settings, truth, block)["y"] for block in range(settings.n_blocks)]
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_row_does_not_depend_on_the_rows_behind_it(kind):
    long = dense(Synthetic(kind, 5000, 30, weights=True, seed=4))
    for n in (1, 2, 777, 4099):
        short = dense(Synthetic(kind, n, 30, weights=True, seed=4))
        assert list(short) == list(long)
        assert all(np.array_equal(short[name], long[name][:n]) for name in short)


def test_a_sparse_row_does_not_depend_on_the_rows_behind_it():
    settings = Synthetic("sparse", 9000, 50, density=0.1, seed=4)
    X, y = csr(settings), labels(settings)
    for n in (1, 2, 777, 8193):
        cut = Synthetic("sparse", n, 50, density=0.1, seed=4)
        assert np.array_equal(csr(cut).toarray(), X[:n].toarray())
        assert np.array_equal(labels(cut), y[:n])


def test_blocks_seeds_and_purposes_have_numbers_of_their_own():
    drawn = [
        generator(seed, stream, block).random(4).tolist()
        for seed in (0, 1, 2**64 - 1)
        for stream in ("truth", "features", "labels")
        for block in (0, 1, 2**40)
    ]
    assert len({tuple(numbers) for numbers in drawn}) == 27


def test_blocks_do_not_overlap_and_features_are_normal():
    X = dense(Synthetic("regression", 40_000, 20))["X"]
    assert np.unique(X).size == X.size
    assert stats.kstest(X.ravel()[:200_000], "norm").pvalue > 1e-4


def test_regression_is_the_truth_and_noise():
    settings = Synthetic("regression", 20_000, 15, informative=4, noise=0.5)
    rows, truth = dense(settings), make_truth(settings)
    assert truth.used.size == 4
    assert np.array_equal(np.flatnonzero(truth.coef[0]), truth.used)
    rest = rows["y"] - rows["X"] @ truth.coef[0] - truth.intercept[0]
    assert rest.std() == pytest.approx(0.5, rel=0.03)
    found = LinearRegression().fit(rows["X"], rows["y"])
    assert np.allclose(found.coef_, truth.coef[0], atol=0.03)


def test_without_noise_regression_is_exact():
    settings = Synthetic("regression", 100, 5, noise=0.0)
    rows, truth = dense(settings), make_truth(settings)
    assert np.allclose(rows["y"], rows["X"] @ truth.coef[0] + truth.intercept[0], rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_classifier_finds_the_truth(classes):
    settings = Synthetic("classification", 60_000, 6, classes=classes, noise=0.0, seed=1)
    rows, truth = dense(settings), make_truth(settings)
    assert set(np.unique(rows["y"])) == set(range(classes))
    found = LogisticRegression(C=np.inf, tol=1e-8).fit(rows["X"], rows["y"])
    wanted = truth.coef - truth.coef.mean(axis=0) if classes > 2 else truth.coef
    assert np.allclose(found.coef_, wanted, atol=0.15)


def test_noise_of_classes_is_a_share_of_labels():
    clean, noisy = (dense(Synthetic("classification", 50_000, 6, noise=noise)) for noise in (0.0, 0.4))
    assert np.array_equal(clean["X"], noisy["X"])
    assert (clean["y"] != noisy["y"]).mean() == pytest.approx(0.2, abs=0.01)


def test_a_poisson_regression_finds_the_truth():
    settings = Synthetic("counts", 40_000, 5)
    rows, truth = dense(settings), make_truth(settings)
    exposure = np.exp(rows["offset"])
    assert 0.5 <= exposure.min() < exposure.max() <= 2.0
    model = PoissonRegressor(alpha=0.0, tol=1e-8)
    found = model.fit(rows["X"], rows["y"] / exposure, sample_weight=exposure)
    assert np.allclose(found.coef_, truth.coef[0], atol=0.03)
    assert found.intercept_ == pytest.approx(truth.intercept[0], abs=0.03)


def test_blobs_lie_around_their_centers():
    settings = Synthetic("blobs", 30_000, 4, centers=5, noise=0.25)
    rows, truth = dense(settings), make_truth(settings)
    assert np.abs(truth.centers).max() <= 10.0
    for k, center in enumerate(truth.centers):
        mine = rows["X"][rows["y"] == k]
        assert np.allclose(mine.mean(axis=0), center, atol=0.02)
        assert np.allclose(mine.std(axis=0), 0.25, rtol=0.05)


def test_the_covariance_has_the_condition_number():
    X = dense(Synthetic("regression", 60_000, 8, condition=1e4))["X"]
    covariance = np.cov(X.T)
    assert np.linalg.cond(covariance) == pytest.approx(1e4, rel=0.1)
    apart = covariance - np.diag(np.diag(covariance))
    assert np.abs(apart).max() > 0.05


@pytest.mark.parametrize("density", [1e-4, 0.03, 0.5, 1.0])
def test_density(density):
    X = csr(Synthetic("sparse", 5000, 200, density=density))
    cells = 5000 * 200
    assert abs(X.nnz - cells * density) <= 6 * np.sqrt(cells * density * (1 - density)) + 0.5
    assert X.has_canonical_format
    if density == 0.5:
        p = [
            stats.chisquare(np.bincount(X.indices, minlength=200)).pvalue,
            stats.kstest(X.data, "norm").pvalue,
        ]
        assert min(p) > 1e-4


def test_sparse_labels_follow_their_rows():
    settings = Synthetic("sparse", 30_000, 20, density=0.2, noise=0.0)
    truth = make_truth(settings)
    z = csr(settings) @ truth.coef[0] + truth.intercept[0]
    order = np.argsort(z)
    shares = [labels(settings)[part].mean() for part in np.array_split(order, 10)]
    wanted = [(1 / (1 + np.exp(-z[part]))).mean() for part in np.array_split(order, 10)]
    assert np.allclose(shares, wanted, atol=0.03)


def test_float32_is_float64_rounded():
    double, single = (dense(Synthetic("counts", 3000, 9, dtype=dtype)) for dtype in ("float64", "float32"))
    assert single["X"].dtype == np.float32
    assert np.array_equal(single["X"], double["X"].astype(np.float32))
    assert np.array_equal(single["y"], double["y"])


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_their_types(kind):
    settings = Synthetic(kind, 10, 3, weights=True)
    truth = make_truth(settings)
    rows = sparse_columns(settings, truth, 0) if settings.is_sparse else dense_block(settings, truth, 0)
    rows.pop("X", None)
    assert {name: values.dtype.str for name, values in rows.items()} == columns_of(settings)
    assert rows["weight"].min() >= 0.5 and rows["weight"].max() < 1.5


@pytest.mark.parametrize("features", [1, 3, 100_000])
def test_a_block_is_small(features):
    settings = Synthetic("regression", 10**9, features)
    assert settings.block_rows * features * 8 <= max(512 << 10, features * 8)
    assert 1 <= settings.block_rows <= 4096


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "moons"}, "kind 'moons' does not fit; write one of classification"),
        ({"rows": 0}, "rows 0"),
        ({"features": 0}, "features 0"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed"),
        ({"dtype": "float16"}, "write float64 or float32"),
        ({"noise": float("nan")}, "noise nan"),
        ({"condition": 0.5}, "condition 0.5"),
        (
            {"classes": 3},
            "classes does not fit kind regression; leave it out, or take kind classification, sparse",
        ),
        ({"density": 0.5}, "density does not fit kind regression"),
        ({"kind": "blobs", "condition": 2.0}, "condition does not fit kind blobs"),
        ({"kind": "sparse", "density": 0.0}, "density 0.0"),
        ({"kind": "classification", "noise": 1.5}, "noise is a share of labels"),
        ({"informative": 6}, "informative 6 of 5 features is too many"),
        ({"kind": "blobs", "centers": 10**6, "features": 1000}, "over 1 GiB"),
    ],
)
def test_what_cannot_be_made(given, said):
    with pytest.raises(SpecError, match=said) as caught:
        Synthetic(**{"kind": "regression", "rows": 10, "features": 5, **given})
    assert str(caught.value).startswith("generate: ")
