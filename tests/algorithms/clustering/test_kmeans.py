"""k-means from beginning to end: in memory, from HDF5, and with rows it cannot group."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import small
from algorithms.blobs import blobs, plain_inertia
from algorithms.problems import Grid, Problem, as_csr

from hpcml.algorithms.clustering.kmeans import KMeansSettings, fit_kmeans, too_few_distinct
from hpcml.algorithms.clustering.starts import METHODS, Start
from hpcml.algorithms.survey import Names
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.errors import DataError, SpecError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table


def settings(k=5, method="k-means||", **others):
    return KMeansSettings(Start(k, method), **others)


def outcome(result):
    return result.centers.tobytes(), result.inertia, result.n_iter


@pytest.mark.parametrize("method", METHODS)
def test_the_same_bits_on_any_number_of_ranks(method):
    problem = blobs(weighted=True)
    expected = outcome(fit_kmeans(Grid(problem), settings(method=method)))
    for make, sizes in ((lambda p: p, (1, 2, 3, 5, 20)), (as_csr, (3,))):
        for size in sizes:

            def program(comm, make=make):
                return outcome(fit_kmeans(Grid(make(problem), comm), settings(method=method)))

            assert run_threads(size, program) == [expected] * size


def test_memory_and_file_give_the_same_bits(tmp_path):
    problem = blobs(600, d=small.N_COLUMNS, weighted=True)
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["X"], file["w"] = problem.X, problem.weight
        small.put_csr(file, "S", as_csr(problem).X)
    cut = small.CUT

    def fitted(comm, name, cache):
        table = open_table(comm, [path], Columns(name, None, "w"), "float64")
        data = HDF5Dataset(table, comm=comm, layout=Layout(cache, **cut))
        try:
            return outcome(fit_kmeans(data, settings()))
        finally:
            data.close()

    found = [
        one
        for name in ("X", "S")
        for cache in ("memory", "none")
        for one in run_threads(2, lambda comm, name=name, cache=cache: fitted(comm, name, cache))
    ]
    grid = Grid(problem, shard_rows=64, block_rows=64)
    assert set(found) == {outcome(fit_kmeans(grid, settings()))}


def test_the_best_of_several_starts():
    problem = blobs(k=9, spread=1.5)
    one = KMeansSettings(Start(9, "random"))
    many = KMeansSettings(Start(9, "random", n_init=6))
    results = [fit_kmeans(Grid(problem), each) for each in (one, many)]
    assert results[1].inertia < results[0].inertia
    assert results[1].loop.runs.inertia[0] == results[0].inertia
    assert results[1].inertia == results[1].loop.runs.inertia.min()


def test_going_on_looks_at_nothing_again():
    problem = blobs(spread=2.5)
    loops = []
    whole = fit_kmeans(Grid(problem), settings(), callback=lambda at: loops.append(at.loop))
    assert outcome(fit_kmeans(Grid(problem), settings(), loop=loops[1])) == outcome(whole)
    assert loops[1].threshold == pytest.approx(1e-4 * problem.X.var(axis=0).mean())


def test_given_centres():
    problem = blobs()
    result = fit_kmeans(Grid(problem), settings(3), centers=problem.X[:3].tolist())
    assert result.inertia == pytest.approx(plain_inertia(problem, result.centers), rel=1e-13)
    for centers, sentence in (
        (problem.X[:2], r"shape \(3, 4\), not \(2, 4\)"),
        ([[np.nan] * 4] * 3, "finite"),
    ):
        with pytest.raises(SpecError, match=sentence):
            run_threads(2, lambda comm, c=centers: fit_kmeans(Grid(problem, comm), settings(3), centers=c))


def test_more_clusters_than_rows():
    for size in (1, 3):
        with pytest.raises(
            DataError, match=r"rows.h5: n_clusters=9 is more than there are rows \(n_samples=8"
        ):
            run_threads(
                size, lambda comm: fit_kmeans(Grid(blobs(8), comm), settings(9), names=Names("rows.h5"))
            )
    assert fit_kmeans(Grid(blobs(8)), settings(8)).inertia == 0


@pytest.mark.parametrize("method", METHODS)
def test_more_clusters_than_distinct_rows(method):
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], 30, axis=0)
    result = fit_kmeans(Grid(Problem(X, np.zeros(90), None)), settings(5, method))
    assert result.inertia == 0
    assert result.converged
    assert "3 distinct clusters were found, fewer than n_clusters=5" in too_few_distinct(result)
    assert too_few_distinct(fit_kmeans(Grid(blobs()), settings())) == ""


@pytest.mark.parametrize("method", METHODS)
def test_all_rows_equal(method):
    result = fit_kmeans(Grid(blobs()._replace(X=np.full((400, 4), 0.1))), settings(3, method))
    assert result.inertia == pytest.approx(0, abs=1e-25)
    assert result.converged
    assert result.n_iter < 10  # means that rounding moves by a bit must not send centres round for ever


def test_nan_is_named():
    problem = blobs()
    problem.X[300, 1] = np.nan
    with pytest.raises(DataError, match="X: row 300, column 1 is nan"):
        run_threads(3, lambda comm: fit_kmeans(Grid(problem, comm), settings()))


def test_squares_that_overflow_are_refused():
    X = np.random.default_rng(5).normal(size=(200, 4)) * 1e200
    data = ArrayDataset(X, comm=SerialCommunicator())
    with pytest.raises(DataError, match="so large that sums of their squares"):
        fit_kmeans(data, KMeansSettings(Start(3)))
