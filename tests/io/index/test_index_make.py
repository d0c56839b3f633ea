"""Digests of every array, made by any number of ranks: those that h5py's reading gives, the same file."""

from __future__ import annotations

import os
from itertools import pairwise

import h5py
import indexed
import numpy as np
import pytest
import small
import xxhash
from scipy import sparse

from hpcml.collectives import run_threads
from hpcml.errors import DataError
from hpcml.io.index.side_file import index_path, load_index
from hpcml.io.read.hdf5 import Columns
from hpcml.run.indexing import index_files

SIZES = [2, 3, 5, 9]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return indexed.put(tmp_path_factory.mktemp("made") / "data.h5")


def digests(values, borders):
    parts = [values[a:b] for a, b in pairwise(borders)]
    return np.array([list(xxhash.xxh3_128_digest(np.ascontiguousarray(part))) for part in parts], np.uint8)


@pytest.mark.parametrize("x", ["X", "chunked", "gzip", "tiles", "S"])
def test_digests_are_of_what_is_stored(rows, x):
    index_path(rows).unlink(missing_ok=True)
    indexed.index(rows, Columns(x, "y", "w"))
    found = load_index(rows)
    arrays = found.contract["arrays"]
    csr = {"S/data", "S/indices", "S/indptr"} if x == "S" else set()
    assert set(arrays) == {"X", "chunked", "gzip", "tiles", "y", "w"} | csr
    with h5py.File(rows) as file:
        for name, known in arrays.items():
            values = file[name][()]
            assert (known["shape"], known["dtype"]) == (list(values.shape), values.dtype.str)
            borders = np.minimum(
                np.arange(0, known["n_rows"] + known["grain_rows"], known["grain_rows"]), known["n_rows"]
            )
            if name in ("S/data", "S/indices"):
                borders = file["S/indptr"][()][borders]
                np.testing.assert_array_equal(found.numbers["borders/S"], borders)
            np.testing.assert_array_equal(found.numbers[f"digests/{name}"], digests(values, borders))
            finite = name in {"S": "S/data"}.get(x, x) or name == "y"
            assert known["is_finite"] is (True if finite else None)


@pytest.mark.parametrize("x", ["X", "gzip", "S"])
def test_any_number_of_ranks_writes_the_same_bytes(rows, x):
    columns = Columns(x, "y", "w")
    index_path(rows).unlink(missing_ok=True)
    indexed.index(rows, columns)
    alone = index_path(rows).read_bytes()
    for size in SIZES:
        index_path(rows).unlink()
        run_threads(size, lambda comm: index_files(comm, [rows], columns, lambda line: None))
        assert index_path(rows).read_bytes() == alone, size


def test_mpi_ranks_write_the_same_bytes(rows):
    written = set()
    for n in (1, 3):
        index_path(rows).unlink(missing_ok=True)
        small.hpcml("index", rows, "--weight", "w", "-n", str(n), check=0)
        written.add(index_path(rows).read_bytes())
    assert len(written) == 1


def test_statistics_of_shards(rows):
    indexed.index(rows)
    found = load_index(rows)
    with h5py.File(rows) as file:
        X, y = file["X"][()], file["y"][()]
    step = found.contract["shard_rows"]
    cut = [slice(a, a + step) for a in range(0, len(X), step)]
    assert len(cut) > 1
    shards = {
        name: found.numbers[f"shards/{name}"] for name in ("rows", "low", "high", "mean", "n_nan", "labels")
    }
    assert shards["rows"].tolist() == [len(X[one]) for one in cut]
    np.testing.assert_array_equal(shards["low"], [X[one].min(axis=0) for one in cut])
    np.testing.assert_array_equal(shards["high"], [X[one].max(axis=0) for one in cut])
    np.testing.assert_allclose(shards["mean"], [np.average(X[one], axis=0) for one in cut], atol=0.05)
    assert not shards["n_nan"].any()
    np.testing.assert_array_equal(shards["labels"], [np.bincount(y[one]) for one in cut])
    assert found.numbers["labels/rows"].tolist() == np.bincount(y).tolist()
    np.testing.assert_array_equal(found.numbers["totals/high"], X.max(axis=0))


def test_many_shards_and_features_have_totals_only(rows, monkeypatch):
    monkeypatch.setattr("hpcml.run.indexing._MOST_NUMBERS", 10)
    index_path(rows).unlink(missing_ok=True)
    for size in (1, 3):
        run_threads(size, lambda comm: index_files(comm, [rows], indexed.DATA, lambda line: None))
        assert not any(name.startswith("shards/") for name in load_index(rows).numbers)
        assert "totals/mean" in load_index(rows).numbers
    index_path(rows).unlink()


def test_rows_without_entries(tmp_path):
    path = tmp_path / "data.h5"
    X = sparse.csr_array((9000, 3))
    X = sparse.vstack([X, sparse.csr_array(np.eye(3)), X]).tocsr()
    with h5py.File(path, "w") as file:
        small.put_csr(file, "S", sparse.csr_array(X))
        file["y"] = np.arange(18003) % 2
    seen = []
    for size in (1, 2, 5):
        index_path(path).unlink(missing_ok=True)
        run_threads(size, lambda comm: index_files(comm, [path], Columns("S", "y", None), lambda line: None))
        seen.append(index_path(path).read_bytes())
    assert len(set(seen)) == 1
    empty = xxhash.xxh3_128_digest(b"")
    assert [one.tobytes() == empty for one in load_index(path).numbers["digests/S/data"]].count(False) == 1


def test_what_is_left_out(tmp_path):
    path = indexed.put(tmp_path / "data.h5", 100)
    with h5py.File(path, "r+") as file:
        file["short"], file["texts"], file["one"] = np.zeros(99), np.array([b"a"] * 100), 1.0
        file["soft"] = h5py.SoftLink("/X")
        file["away"] = h5py.ExternalLink("other.h5", "X")
        file.create_dataset("never", (100, 2), "f4", chunks=(10, 2))
        file["more"] = np.zeros((100, 2, 3), np.float16)
    indexed.index(path)
    assert set(load_index(path).contract["arrays"]) == {"X", "chunked", "gzip", "tiles", "y", "w", "more"}


def test_a_column_vector_of_labels_and_no_labels(tmp_path):
    path = indexed.put(tmp_path / "data.h5", 100)
    with h5py.File(path, "r+") as file:
        y = file.pop("y")[()]
    indexed.index(path, Columns("X", "", None))
    with h5py.File(path, "r+") as file:
        file["y"] = y[:, None]
    index_path(path).unlink()
    indexed.index(path, Columns("X", "", None))
    assert load_index(path).contract["arrays"]["y"]["shape"] == [100, 1]


@pytest.mark.parametrize("size", [1, 3])
def test_a_file_that_changes_meanwhile(tmp_path, size, monkeypatch):
    from hpcml.io.index.make import Recorder

    path = indexed.put(tmp_path / "data.h5")
    read = Recorder.read
    monkeypatch.setattr(Recorder, "read", lambda self, names: (read(self, names), os.utime(path, (1, 1))))
    with pytest.raises(DataError, match="changed while it was read"):
        run_threads(size, lambda comm: index_files(comm, [path], indexed.DATA, lambda line: None))
    assert not index_path(path).exists()


def test_an_index_of_the_same_state_keeps_what_it_knew(tmp_path):
    path = indexed.put(tmp_path / "data.h5", 100)
    indexed.index(path, Columns("S", "y", "w"))
    first = load_index(path)
    indexed.index(path, Columns("X", "y", "w"))
    both = load_index(path)
    assert set(first.contract["arrays"]) < {*both.contract["arrays"], "?"}
    assert set(first.answers) < set(both.answers)
    os.utime(path)
    indexed.index(path, Columns("X", "y", "w"))
    assert "S/data" not in load_index(path).contract["arrays"]
