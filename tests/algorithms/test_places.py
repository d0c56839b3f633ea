"""Every solver, dense and CSR: rows that are streamed on any number of ranks give the bits of memory."""

from __future__ import annotations

import h5py
import pytest
from algorithms.problems import classification, regression
from algorithms.test_rough_penalties import digest
from scipy import sparse

from hpcml.algorithms.choice import SOLVERS, make_solver
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import run_threads
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table

D, N = 6, 700
SHARD = 64 * D * 8
# fista is nesterov by another name; the bits of async_admm depend on who came when.
NAMES = [name for name in SOLVERS if name not in ("fista", "async_admm")]


@pytest.fixture(scope="module")
def problems():
    return {"logistic_regression": classification(N, D), "linear_regression": regression(N, D)}


@pytest.fixture(scope="module")
def path(tmp_path_factory, problems):
    """A file of the rows, dense and as CSR."""
    path = tmp_path_factory.mktemp("places") / "rows.h5"
    X = problems["logistic_regression"].X
    S = sparse.csr_array(X)
    with h5py.File(path, "w") as file:
        file["X"] = X
        for part in ("data", "indices", "indptr"):
            file[f"S/{part}"] = getattr(S, part)
        file["S"].attrs["shape"] = X.shape
        for kind, problem in problems.items():
            file[kind] = problem.y
    return path


def solved(data, kind, name):
    settings = ModelSettings(kind, alpha=0.03, l1_ratio=float(name in ("gram", "prox_newton", "nesterov")))
    objective, _ = make_objective(data, settings, survey(data, classes=kind == "logistic_regression"))
    result = run_solver(objective, make_solver(name), Rules(400, 1e-9))
    return digest(result), result.converged


@pytest.mark.parametrize("x", ["X", "S"])
@pytest.mark.parametrize("name", NAMES)
def test_streaming_gives_the_bits_of_memory(path, monkeypatch, name, x):
    """In read units of two shards, of which each of five ranks has one or two."""
    monkeypatch.setattr("hpcml.io.read.table.UNIT_BYTES", 2 * SHARD)
    kind = "linear_regression" if name == "gram" else "logistic_regression"

    def program(comm, cache):
        rows = open_table(comm, [path], Columns(x, kind))
        with HDF5Dataset(rows, comm=comm, layout=Layout(cache, shard_bytes=SHARD, block_rows=16)) as data:
            assert data.partition.n_shards == 11
            return solved(data, kind, name)

    expected = run_threads(1, lambda comm: program(comm, "memory"))[0]
    assert expected[1]
    for size in (1, 2, 3, 5):
        assert run_threads(size, lambda comm: program(comm, "none")) == [expected] * size
