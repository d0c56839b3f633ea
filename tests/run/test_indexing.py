"""What an index costs: every row is read once where rows fit in memory, else as often as the bits need."""

from __future__ import annotations

import shutil

import h5py
import indexed
import numpy as np
import pytest
import small

from hpcml.algorithms.scaling import fit_scaling
from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.errors import DataError
from hpcml.io import dataset
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.index.side_file import index_path, load_index
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table
from hpcml.run import indexing, inputs
from hpcml.run import placing as placing_module
from hpcml.run.contract import look_through
from hpcml.run.indexing import index_files, index_job
from hpcml.run.shared_pass import SharedPass
from hpcml.spec import load_spec

SERIAL = SerialCommunicator()
SIZES = [1, 2, 3, 5]
OTHERS = ["chunked", "gzip", "tiles"]


@pytest.fixture
def path(tmp_path):
    return indexed.put(tmp_path / "data.h5")


@pytest.fixture
def tables(monkeypatch):
    """Every table that is opened, on any rank."""
    opened = []

    def noted(*args, **keywords):
        opened.append(open_table(*args, **keywords))
        return opened[-1]

    for module in (indexing, inputs):
        monkeypatch.setattr(module, "open_table", noted)
    return opened


def n_bytes(tables):
    return sum(table.traffic.bytes_read for table in tables)


def stored(path, *names):
    with h5py.File(path, locking=False) as file:
        return sum(file[name].id.get_storage_size() for name in names)


def never_fits(monkeypatch):
    for module in (dataset, placing_module):
        monkeypatch.setattr(module, "fits_in_memory", lambda *_: False)


def index(size, path, columns):
    run_threads(size, lambda comm: index_files(comm, [path], columns, lambda line: None))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("x", ["X", "gzip", "chunked"])
def test_bytes_of_an_index(path, tables, monkeypatch, x, size):
    rows = stored(path, x, "y", "w")
    others = stored(path, *({"X", *OTHERS} - {x}))
    # Where chunks move the borders of shards, a rank reads y and w from the beginning of their grain on.
    heads = 0 if x == "X" else (size - 1) * 4096 * 9
    index(size, path, Columns(x, "y", "w"))
    assert 0 <= n_bytes(tables) - (rows + others) <= heads
    kept = index_path(path).read_bytes()
    index_path(path).unlink()
    tables.clear()
    never_fits(monkeypatch)
    index(size, path, Columns(x, "y", "w"))
    # The deviations are taken from the mean.
    assert 0 <= n_bytes(tables) - (2 * rows + others) <= 2 * heads
    assert index_path(path).read_bytes() == kept
    assert {table.traffic.opens for table in tables} == {1}


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_an_index_of_sparse_rows(path, tables, monkeypatch, size):
    borders = stored(path, "S/indptr")
    rows = stored(path, "S/data", "S/indices", "y") + borders
    others = stored(path, "X", *OTHERS, "w")
    index(size, path, Columns("S", "y", None))
    once = n_bytes(tables)
    tables.clear()
    never_fits(monkeypatch)
    index_path(path).unlink()
    index(size, path, Columns("S", "y", None))
    # The borders of the grains are looked up first; a read of rows needs one border more than rows.
    assert 0 <= once - (rows + borders + others) < 200
    assert 0 <= n_bytes(tables) - (2 * rows + borders + others) < 400


@pytest.mark.parametrize(("method", "passes"), [("hash", (3, 2)), ("none", (2, 1))])
def test_bytes_of_the_answers_of_a_job(path, tables, monkeypatch, tmp_path, method, passes):
    indexed.index(path)
    tables.clear()
    split = {"method": method, "test": 0.2} if method == "hash" else {"method": method}
    rows = stored(path, "X", "y", "w")
    found = []
    for cache, n in zip(("none", "memory"), passes, strict=True):
        keys = {"data__weight": "w", "data__cache": cache, "data__partition": {}, "data__split": split}
        spec = load_spec(small.write_spec(tmp_path / f"{cache}.yaml", path, **keys))
        run_threads(2, lambda comm, spec=spec: index_job(comm, spec, lambda line: None))
        assert n_bytes(tables) == n * rows
        tables.clear()
        found.append(index_path(path).read_bytes())
    assert found[0] == found[1]
    never_fits(monkeypatch)
    spec = load_spec(small.write_spec(tmp_path / "auto.yaml", path, **{**keys, "data__cache": "auto"}))
    index_job(SERIAL, spec, lambda line: None)
    assert n_bytes(tables) == passes[0] * rows


def test_rows_of_other_files_are_read_once_more(path, tables, tmp_path):
    whole = tmp_path / "whole.h5"
    with h5py.File(path) as file, h5py.File(whole, "w") as made:
        for name in ("X", "y"):
            layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
            layout[:] = h5py.VirtualSource("data.h5", name, file[name].shape)
            made.create_virtual_dataset(name, layout)
    index(3, whole, Columns("X", "y", None))
    assert n_bytes(tables) == 2 * stored(path, "X", "y") + stored(path, *OTHERS, "w")
    assert load_index(path).answers and not index_path(whole).exists()


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_first_pass_is_heard_once(path, size):
    def work(comm):
        with open_table(comm, [path], indexed.DATA) as table:
            data = HDF5Dataset(table, comm=comm, layout=Layout("none"))
            heard = []

            def terms(block):
                heard.extend(block.start for _ in range(block.n_shards))
                return [np.full((block.n_shards, 1), 2.0)]

            shared = SharedPass(data, terms)
            mine = data.partition.shards_of(comm.rank)
            for shard in mine[:1]:
                assert len(list(shared.blocks(shard))) == 1 and not heard
            for _ in range(3):
                list(shared.blocks())
            assert len(heard) == len(mine)
            alone = SharedPass(data, terms).total(1)  # makes the pass itself
            return shared.total(1)[0], alone[0], 2.0 * data.partition.n_shards

    for total, alone, wanted in run_threads(size, work):
        assert total == alone == wanted


def test_means_and_deviations_have_the_bits_of_the_job(path):
    indexed.index(path)
    with open_table(SERIAL, [path], indexed.DATA, "float64") as table:
        data = HDF5Dataset(table, comm=SERIAL, layout=Layout("none"))
        known = look_through(data, table, classes=True).scaling
        assert data.passes == 0
        for found, wanted in zip(known, fit_scaling(data, True, True), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [1, 3])
def test_rows_that_are_others_when_they_are_read_again(path, monkeypatch, size):
    never_fits(monkeypatch)
    save = indexing._write

    def then_flip(*args):
        save(*args)
        if args[0].rank == 0:
            indexed.flip(path, "X", 5000)
        args[0].bcast(None)

    monkeypatch.setattr(indexing, "_write", then_flip)
    with pytest.raises(
        DataError, match=r"data\.h5: rows 4096 to 8192 of 'X' were others when they were read"
    ):
        index(size, path, indexed.DATA)
    assert load_index(path).answers == {}


def test_weights_that_are_all_zero(path, recwarn):
    with h5py.File(path, "r+") as file:
        file["w"][...] = 0.0
    with pytest.raises(DataError, match="the weights are all zero"):
        index(2, path, indexed.DATA)
    assert not [one for one in recwarn if issubclass(one.category, RuntimeWarning)]


def test_a_real_job_writes_what_one_rank_writes(path, tmp_path):
    spec = small.write_spec(tmp_path / "job.yaml", path, data__weight="w")
    written = []
    for n in (1, 3):
        index_path(path).unlink(missing_ok=True)
        ended = small.commands(n, [["index", spec], ["index", path, "--weight", "w"]], tmp_path / f"on{n}")
        assert [rank.code for ranks in ended for rank in ranks] == [0] * 2 * n
        written.append(index_path(path).read_bytes())
    assert written[0] == written[1]
    shutil.rmtree(tmp_path / "on3")


def test_a_link_out_of_a_file_has_the_cure_of_this_command(tmp_path):
    small.make_rows(tmp_path / "there.h5")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["X"] = h5py.ExternalLink("there.h5", "/X")
    lines = [["index", tmp_path / "rows.h5"], ["index", "--allow-external", tmp_path / "rows.h5"]]
    (refused, followed) = small.commands(2, lines, tmp_path / "on2", timeout=60)
    assert {rank.code for rank in refused} == {3} and {rank.code for rank in followed} == {0}
    said = "".join(rank.stderr for rank in refused)
    assert "in the file 'there.h5'; give --allow-external to follow it" in said
    assert "data.allow_external" not in said
