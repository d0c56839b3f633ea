"""What passes cost: messages, repeated sums, rows that stay in a file, and either kind of kernels."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcml.algorithms.decomposition.decompose import DecompositionSettings, decompose
from hpcml.algorithms.decomposition.gram import scatter
from hpcml.algorithms.decomposition.reference import look
from hpcml.algorithms.decomposition.tsqr import tall_factor
from hpcml.algorithms.kernels import choice
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads
from hpcml.data import ArrayDataset
from hpcml.io.dataset import open_hdf5

SERIAL = SerialCommunicator()


def rows(n=5000, d=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) * np.logspace(0, -2, d) + np.arange(d)


class Passes:
    """A data set that counts passes."""

    def __init__(self, data):
        self.data, self.n = data, 0
        self.comm, self.partition = data.comm, data.partition
        self.n_samples, self.n_features = data.n_samples, data.n_features

    def blocks(self, shard=None):
        self.n += 1
        yield from self.data.blocks(shard)


@pytest.mark.parametrize(
    ("options", "messages", "passes"),
    [({"method": "gram"}, 3, 1), ({"method": "tsqr"}, 5, 1), ({"method": "randomized", "n_iter": 2}, 7, 4)],
    ids=["gram", "tsqr", "randomized"],
)
def test_messages_and_passes(options, messages, passes):
    counting = CountingCommunicator(SERIAL)
    data = Passes(ArrayDataset(rows(), comm=counting))
    before = counting.calls.total()
    decompose(data, DecompositionSettings(3, **options))
    assert counting.calls.total() - before == messages
    assert data.n == passes + 1  # and a look at the first shard


def test_the_message_of_a_random_pass_has_only_the_directions():
    counting = CountingCommunicator(SERIAL)
    data = ArrayDataset(rows(d=300), comm=counting)
    settings = DecompositionSettings(2, method="randomized", n_oversamples=3, n_iter=0)
    before = counting.bytes.total()
    decompose(data, settings)
    sums = 300 * 6 + 2
    assert counting.bytes.total() - before < 8 * (2 * 3.5 * sums + 3 * 300)


def test_a_shard_that_outgrows_the_first_is_added_all_the_same():
    X = rows(20_000, 6)
    X[15_000:] *= 1e9
    X[:9000, 2] = 0.0
    C = X - X.mean(axis=0)
    data = Passes(ArrayDataset(X, comm=SERIAL))
    assert data.partition.n_shards > 3
    found = scatter(data)
    assert np.allclose(found.products, C.T @ C, rtol=1e-10, atol=1e-12 * np.abs(C.T @ C).max())
    assert data.n > 2
    values = decompose(data, DecompositionSettings(4, method="randomized")).singular_values
    assert values == pytest.approx(np.linalg.svd(C, compute_uv=False)[:4], rel=1e-8)


def test_products_are_exact_whatever_the_first_shard():
    far = rows(20_000, 6)
    far[:5000] += 1e7  # the first shard is far from the mean
    C = far - far.mean(axis=0)
    exact = (C.T.astype(np.longdouble) @ C).astype(float)
    found = scatter(ArrayDataset(far, comm=SERIAL))
    assert np.abs(found.products - exact).max() < 1e-12 * np.abs(exact).max()
    R = tall_factor(ArrayDataset(far, comm=SERIAL)).R
    assert np.abs(R.T @ R - exact).max() < 1e-12 * np.abs(exact).max()


def test_a_centre_is_taken_only_where_it_is_far():
    X = rows(2000, 6)
    X[:, 5] = 1 / 3
    reference = look(ArrayDataset(X, comm=SERIAL), centers=True)
    assert (reference.center != 0).tolist() == [False, True, True, True, True, True]
    assert reference.center[5] == 1 / 3 and reference.size[5] == 0
    assert not look(ArrayDataset(X, comm=SERIAL), centers=False).center.any()


def test_the_first_shard_with_rows_is_looked_at_whoever_has_it():
    X = rows(4000, 6)
    expected = look(ArrayDataset(X, comm=SERIAL), centers=True)

    def program(comm):
        cut = [0, 0, 100, 4000][comm.rank : comm.rank + 2]
        return look(ArrayDataset(X[slice(*cut)], comm=comm), centers=True)

    for found in run_threads(3, program):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("method", ["gram", "tsqr", "randomized"])
def test_rows_that_stay_in_a_file_give_the_bits_of_rows_in_memory(tmp_path, method):
    path, settings = tmp_path / "rows.h5", DecompositionSettings(3, method=method)
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=rows().astype(np.float32), chunks=(500, 20))

    def program(comm, cache):
        with open_hdf5(path, x="X", y=None, comm=comm, cache=cache) as data:
            found = decompose(data, settings)
        return found.components.tobytes() + found.singular_values.tobytes() + found.mean.tobytes()

    bits = {program(SERIAL, cache) for cache in ("memory", "none")}
    bits |= set(run_threads(3, lambda comm: program(comm, "none")))
    assert len(bits) == 1


@pytest.mark.parametrize("method", ["gram", "tsqr", "randomized"])
@pytest.mark.parametrize("kind", ["numpy", "auto"])
def test_either_kind_of_kernels(monkeypatch, kind, method):
    monkeypatch.setenv(choice.VARIABLE, kind)
    X = rows()
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[:4]
    settings = DecompositionSettings(4, method=method)
    found = decompose(ArrayDataset(X, comm=SERIAL), settings)
    assert found.singular_values == pytest.approx(values, rel=1e-9)

    def program(comm):
        half = slice(0, 2000) if comm.rank == 0 else slice(2000, None)
        return decompose(ArrayDataset(X[half], comm=comm), settings)

    for one in run_threads(2, program):
        assert np.array_equal(one.components, found.components)
