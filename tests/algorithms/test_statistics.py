"""Statistics in one pass against exact sums, pandas and NumPy; the same bits for any number of ranks."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import small
from algorithms.problems import Grid, Problem, as_csr
from scipy import sparse

from hpcml.algorithms import statistics
from hpcml.algorithms.statistics import merge_records, shard_records, summarize
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.data import RowSelection
from hpcml.errors import DataError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table

SIZES = (1, 2, 3, 5, 9)


def rows(n=150, gaps=False, weighted=True, seed=0):
    """Columns around zero, far from it, with zeros, constant, and a copy of the first with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * [1, 1, 3, 0, 0] + [0, 1e8, 0, 0.1, 0]
    X[:, 2] *= rng.random(n) < 0.4
    X[:, 4] = 0.5 * X[:, 0] + 0.1 * rng.normal(size=n)
    if gaps:
        X[rng.random(X.shape) < 0.2] = np.nan
        X[:, 3] = np.nan
    return Problem(X, rng.integers(0, 3, n).astype(float), rng.random(n) if weighted else None)


def bits(summary):
    """Everything in a summary, as bytes."""
    parts = [*summary.features, *(summary.target or ()), summary.covariance, summary.correlation]
    arrays = [np.asarray(part).tobytes() for part in parts if part is not None]
    return arrays, summary.n_rows, summary.weight, json.dumps(summary.labels)


def found(problem, sizes=SIZES, **grid):
    """The summary of the same rows on several numbers of ranks, which must agree to the bit."""
    everyone = [
        one
        for size in sizes
        for one in run_threads(size, lambda comm: summarize(Grid(problem, comm, **grid), correlations=True))
    ]
    for one in everyone:
        assert bits(one) == bits(everyone[0])
    return everyone[0]


def exact(x, weight):
    """Mean and variance of a column in rational numbers, NaN left out."""
    keep = ~np.isnan(x)
    x, weight = [Fraction(v) for v in x[keep]], [Fraction(v) for v in weight[keep]]
    if not x:
        return np.nan, np.nan
    total = sum(weight)
    mean = sum(w * v for w, v in zip(weight, x, strict=True)) / total
    return float(mean), float(sum(w * (v - mean) ** 2 for w, v in zip(weight, x, strict=True)) / total)


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


MAKES = pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
GAPS = pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])


@MAKES
@GAPS
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_those_of_exact_sums(make, gaps, weighted):
    problem = rows(gaps=gaps, weighted=weighted)
    summary = found(make(problem))
    X, y, weight = problem
    weight = np.ones(len(X)) if weight is None else weight
    for j in range(X.shape[1]):
        mean, variance = exact(X[:, j], weight)
        np.testing.assert_allclose(summary.features.mean[j], mean, rtol=1e-15, atol=1e-16)
        np.testing.assert_allclose(summary.features.variance[j], variance, rtol=1e-13, atol=1e-30)
    np.testing.assert_array_equal(summary.features.low, pd.DataFrame(X).min())
    np.testing.assert_array_equal(summary.features.high, pd.DataFrame(X).max())
    assert summary.features.n_nan.tolist() == np.isnan(X).sum(axis=0).tolist()
    assert summary.features.n_zero.tolist() == (X == 0).sum(axis=0).tolist()
    assert (summary.n_rows, summary.weight) == (150, pytest.approx(weight.sum(), rel=1e-15))
    np.testing.assert_allclose(
        [summary.target.mean[0], summary.target.variance[0]], exact(y, weight), rtol=1e-14
    )
    assert summary.labels == pd.Series(y).value_counts().sort_index().to_dict()


@MAKES
def test_a_constant_column_has_no_spread(make):
    features = found(make(rows(n=700))).features
    assert features.variance[3] == 0.0 and features.mean[3] == 0.1  # a sum of 0.1 would say otherwise


@MAKES
@GAPS
def test_correlations_are_those_of_pandas(make, gaps):
    problem = rows(gaps=gaps, weighted=False)
    summary = found(make(problem))
    frame = pd.DataFrame(problem.X - [0, 1e8, 0, 0, 0])  # exact here; pandas' own sums would lose digits
    known = frame.notna().astype(int)
    both = known.T @ known  # pandas takes ddof=0 only where nothing is missing
    np.testing.assert_allclose(summary.covariance, frame.cov() * (both - 1) / both, rtol=1e-9, atol=1e-9)
    expected = frame.corr().to_numpy()
    np.testing.assert_allclose(summary.correlation, expected, rtol=1e-9, atol=1e-9)
    first, second, value = summary.most_correlated
    assert (first, second) == (0, 4) and value == summary.correlation[0, 4] > 0.9
    assert np.array_equal(summary.correlation, summary.correlation.T, equal_nan=True)


@MAKES
def test_weighted_covariances(make):
    problem = rows()
    summary = found(make(problem))
    expected = np.cov(problem.X.T, aweights=problem.weight, ddof=0)
    np.testing.assert_allclose(summary.covariance, expected, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(summary.covariance.diagonal(), summary.features.variance, rtol=1e-9)


@MAKES
def test_pairs_that_are_constant_where_both_are_known(make):
    problem = rows(weighted=False)
    X = problem.X.copy()
    X[:, 3] = np.where(np.arange(150) < 40, 0.3, np.nan)  # constant wherever it is known
    X[:40, 2] = 0.7  # and this one constant there, but not elsewhere
    summary = found(make(problem._replace(X=X)))
    assert np.isnan(summary.correlation[3]).all()
    X[5, 3] = 0.4
    summary = found(make(problem._replace(X=X)))
    assert np.isnan(summary.correlation[2, 3]) and not np.isnan(summary.correlation[0, 3])


def test_infinite_numbers_stay_visible():
    X = rows().X
    X[7, 0], X[9, 2], X[11, 2] = np.inf, np.inf, -np.inf
    for problem in (rows()._replace(X=X), as_csr(rows()._replace(X=X))):
        features = found(problem).features
        assert features.mean[0] == np.inf and features.high[0] == np.inf and np.isnan(features.mean[2])
        assert (features.low[2], features.high[2]) == (-np.inf, np.inf)
        np.testing.assert_allclose(features.mean[1], exact(X[:, 1], problem.weight)[0], rtol=1e-15)


def test_rows_without_weight_count_but_do_not_weigh():
    problem = rows()
    weight = np.where(np.arange(150) < 64, 0.0, problem.weight)  # two whole shards
    summary = found(problem._replace(weight=weight))
    expected = found(problem._replace(X=problem.X[64:], y=problem.y[64:], weight=weight[64:]))
    np.testing.assert_allclose(summary.features.mean, expected.features.mean, rtol=1e-14)
    np.testing.assert_allclose(summary.correlation, expected.correlation, rtol=1e-9)
    assert summary.n_rows == 150 and sum(summary.labels.values()) == 150
    nothing = found(problem._replace(weight=np.zeros(150)))
    assert np.isnan(nothing.features.mean).all() and nothing.weight == 0
    assert (nothing.features.high == problem.X.max(axis=0)).all() and nothing.most_correlated is None


def test_a_selection_leaves_rows_out():
    problem, selection = rows(), RowSelection(seed=3, start=70, fraction=0.3)
    keep = selection.keeps(np.arange(150))
    summary = found(problem, selection=selection)
    assert summary.n_rows == keep.sum()
    np.testing.assert_array_equal(summary.features.high, problem.X[keep].max(axis=0))


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (np.arange(150) % 2 - 0.5, None),
        (np.arange(150.0), dict.fromkeys(np.arange(150.0), 1)),
        (np.where(np.arange(150) < 9, np.nan, -0.0), {0.0: 141}),
        (None, None),
    ],
    ids=["fractions", "whole", "gaps", "no y"],
)
def test_labels(y, labels):
    summary = found(rows()._replace(y=y))
    assert summary.labels == labels
    if y is None:
        assert summary.target is None
    else:
        assert summary.target.n_nan[0] == np.isnan(y).sum() and summary.target.high[0] == np.nanmax(y)


def test_too_many_values_are_no_labels():
    problem = Problem(np.ones((3000, 1)), np.arange(3000) % 1001.0)
    assert found(problem, (1, 3)).labels is None
    assert len(found(problem._replace(y=np.arange(3000) % 1000.0), (1, 3)).labels) == 1000


def test_no_rows():
    for size in (1, 3):
        with pytest.raises(DataError, match="no rows") as caught:
            run_threads(size, lambda comm: summarize(Grid(rows(), comm, selection=RowSelection(start=150))))
        assert caught.value.on_all_ranks


def test_too_many_columns_for_correlations():
    with pytest.raises(DataError, match=r"5,000 columns would take 0\.2 GB"):
        summarize(Grid(Problem(np.ones((2, 5000)), None)), correlations=True)


class Passes:
    """A data set that counts how often its rows are passed over."""

    def __init__(self, data):
        self.data, self.n = data, 0
        self.comm, self.n_features = data.comm, data.n_features

    def blocks(self):
        self.n += 1
        return self.data.blocks()


def test_one_pass_and_few_messages():
    comm = CountingCommunicator(SerialCommunicator())
    data = Passes(Grid(rows(gaps=True), comm))
    summarize(data)
    assert (data.n, comm.calls["allreduce"], comm.calls["allgather"]) == (1, 7, 1)
    summarize(data, correlations=True)
    assert (data.n, comm.calls["allreduce"]) == (2, 7 + 9)


@GAPS
def test_many_records_are_made_again(monkeypatch, gaps):
    problem = rows(gaps=gaps)
    kept = found(problem)
    monkeypatch.setattr(statistics, "_KEEP_BYTES", 1000)
    assert bits(found(problem)) == bits(kept)


@GAPS
def test_records_of_shards_make_the_same_summary(gaps):
    problem = rows(gaps=gaps)
    expected = summarize(Grid(problem))

    def merged(comm):
        records = [record for block in Grid(problem, comm).blocks() for record in shard_records(block)]
        return merge_records(comm, records, 5)

    assert {str(bits(one)) for size in SIZES for one in run_threads(size, merged)} == {str(bits(expected))}


@pytest.mark.parametrize("x", ["X", "chunked", "S", "float32", "integers"])
def test_streamed_or_in_memory(tmp_path, x):
    path = small.make_rows(tmp_path / "rows.h5")

    def program(comm, cache):
        layout = Layout(cache=cache, block_rows=64, shard_bytes=64 * 6 * 8)
        with open_table(comm, [path], Columns(x, "y", "w")) as table:
            return bits(summarize(HDF5Dataset(table, comm=comm, layout=layout), correlations=True))

    everyone = [
        one
        for cache in ("memory", "none")
        for size in (1, 3, 12)
        for one in run_threads(size, lambda comm, cache=cache: program(comm, cache))
    ]
    assert everyone.count(everyone[0]) == len(everyone) == 32


def test_under_mpi(tmp_path, spmd):
    path = small.make_rows(tmp_path / "rows.h5")
    text = """
        import hashlib, sys
        import numpy as np
        from pathlib import Path
        from hpcml.algorithms.statistics import summarize
        from hpcml.collectives import world
        from hpcml.io.dataset import HDF5Dataset, Layout
        from hpcml.io.read.hdf5 import Columns
        from hpcml.io.read.table import open_table
        comm = world()
        with open_table(comm, [Path(sys.argv[1])], Columns()) as table:
            layout = Layout(block_rows=64, shard_bytes=3072)
            found = summarize(HDF5Dataset(table, comm=comm, layout=layout), correlations=True)
        arrays = [*found.features, found.correlation]
        print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest())
    """
    lines = [line for n in (1, 3) for line in spmd(n, text, path, check=0).lines]
    assert len(lines) == 4 and len(set(lines)) == 1
