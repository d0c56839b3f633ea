"""Rows and files on scratch: the same numbers as their source, or none at all."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess

import harness
import numpy as np
import pytest
import small
from nodes import Nodes
from scipy import sparse
from staged import (
    DENSE,
    N_COLUMNS,
    N_ROWS,
    PROGRAM,
    SHARD_ROWS,
    SPARSE,
    WEIGHT,
    ArrayRows,
    Y,
    abandon,
    cut,
    dense,
    quiet,
    scratch_at,
)

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import RowPartition, Source, make_partition
from hpcml.errors import DataError, OutputError
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table
from hpcml.io.scratch import copying, staging
from hpcml.io.scratch.copying import stage_files
from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch
from hpcml.io.scratch.staging import stage_shards


@pytest.mark.parametrize("size", [1, 2, 3, 5, 14])
@pytest.mark.parametrize("n_nodes", [1, 2])
@pytest.mark.parametrize(
    ("X", "y", "weight", "dtype"),
    [(DENSE, Y, WEIGHT, "f8"), (DENSE, None, None, "f4"), (SPARSE, Y, None, "f8"), (SPARSE, Y, WEIGHT, "f4")],
)
def test_staged_rows_are_those_of_the_source(tmp_path, size, n_nodes, X, y, weight, dtype):
    partition = cut(size)

    def program(comm):
        comm = Nodes(comm, min(n_nodes, size))
        reader = ArrayRows(X, y, weight, dtype)
        with scratch_at(tmp_path, comm) as scratch:
            staged = stage_shards(comm, scratch, reader, partition, quiet)
            assert reader.checks == 1
        # The files are gone; what is mapped stays.
        start, stop = partition.rows_of(partition.shards_of(comm.rank))
        assert reader.rows_read == stop - start
        middle = (start + stop) // 2
        parts = [staged.read(start, middle), staged.read(middle, stop)]
        assert (staged.dtype, staged.is_sparse) == (reader.dtype, reader.is_sparse)
        assert staged.source == reader.source
        return parts

    found = [part for parts in run_threads(size, program) for part in parts]
    assert os.listdir(tmp_path) == []
    np.testing.assert_array_equal(np.concatenate([dense(part.X) for part in found]), dense(X.astype(dtype)))
    for name, given in (("y", y), ("weight", weight)):
        values = [getattr(part, name) for part in found]
        if given is None:
            assert values == [None] * len(values)
        else:
            np.testing.assert_array_equal(np.concatenate(values), given)
    for part in found:
        if sparse.issparse(X):
            assert part.X.indices.dtype == part.X.indptr.dtype == np.int32
            part.X.check_format(full_check=True)
            assert part.X.has_canonical_format


def test_reads_are_views_that_cannot_be_written(tmp_path):
    with scratch_at(tmp_path) as scratch:
        staged = stage_shards(SerialCommunicator(), scratch, ArrayRows(), cut(1), quiet)
    one, two = staged.read(10, 500), staged.read(0, 1000)
    assert np.shares_memory(one.X, two.X) and np.shares_memory(one.y, two.y)
    with pytest.raises(ValueError, match="read-only"):
        one.X[0, 0] = 1.0
    csr = ArrayRows(SPARSE)
    with scratch_at(tmp_path) as scratch:
        staged = stage_shards(SerialCommunicator(), scratch, csr, cut(1), quiet)
    one, two = staged.read(10, 500), staged.read(0, 1000)
    assert np.shares_memory(one.X.data, two.X.data) and np.shares_memory(one.X.indices, two.X.indices)
    for product in (one.X @ np.ones(N_COLUMNS), one.X.T @ np.ones(490), one.X[3:9].sum()):
        assert np.isfinite(product).all()
    staged.check()
    staged.close()
    assert one.y[0] == Y[10]  # what was returned stays
    with pytest.raises(IndexError):
        staged.read(0, 10)


def test_rows_of_another_rank_are_refused(tmp_path):
    def program(comm):
        with scratch_at(tmp_path, comm) as scratch:
            staged = stage_shards(comm, scratch, ArrayRows(), cut(2), quiet)
        with pytest.raises(IndexError, match="are staged"):
            staged.read(0, N_ROWS)

    run_threads(2, program)


def test_columns_stored_out_of_order_and_twice_are_put_in_order(tmp_path):
    X = sparse.csr_array((np.array([1.0, 2.0, 4.0]), np.array([3, 0, 3]), np.array([0, 3, 3])), shape=(2, 5))
    with scratch_at(tmp_path) as scratch:
        reader = ArrayRows(X, None, None)
        staged = stage_shards(SerialCommunicator(), scratch, reader, RowPartition(2, 64, 64, (0, 1)), quiet)
    np.testing.assert_array_equal(staged.read(0, 2).X.toarray(), X.toarray())
    assert staged.read(0, 2).X.indices.tolist() == [0, 3]


def test_rows_without_a_single_value(tmp_path):
    X = sparse.csr_array((N_ROWS, N_COLUMNS))
    with scratch_at(tmp_path) as scratch:
        staged = stage_shards(SerialCommunicator(), scratch, ArrayRows(X), cut(1), quiet)
    assert staged.read(0, N_ROWS).X.nnz == 0


def test_two_sets_in_one_scratch(tmp_path):
    with scratch_at(tmp_path) as scratch:
        train = stage_shards(SerialCommunicator(), scratch, ArrayRows(), cut(1), quiet, "train")
        other = stage_shards(SerialCommunicator(), scratch, ArrayRows(-DENSE), cut(1), quiet, "test")
        again = stage_shards(SerialCommunicator(), scratch, ArrayRows(), cut(1), quiet, "train")
    np.testing.assert_array_equal(train.read(0, 99).X, -other.read(0, 99).X)
    np.testing.assert_array_equal(train.read(0, 99).X, again.read(0, 99).X)


@pytest.mark.parametrize("X", [DENSE, SPARSE])
def test_the_next_attempt_reads_only_what_is_missing(tmp_path, monkeypatch, X):
    class Ended(BaseException):
        pass

    class Ending(ArrayRows):
        def read(self, start, stop, buffers=None):
            if start >= 5 * SHARD_ROWS:
                raise Ended
            return super().read(start, stop, buffers)

    monkeypatch.setattr(staging, "_COMMIT_BYTES", 2 * SHARD_ROWS * 8 * N_COLUMNS // 3)
    with contextlib.suppress(Ended), scratch_at(tmp_path, keep="always") as scratch:
        stage_shards(SerialCommunicator(), scratch, Ending(X), cut(1), quiet)
    (left,) = tmp_path.iterdir()
    abandon(left)
    reader = ArrayRows(X)
    with scratch_at(tmp_path, keep="on_failure") as scratch:
        assert [left.name] != os.listdir(tmp_path) == [scratch.path.name]
        staged = stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
    assert 0 < reader.rows_read < N_ROWS and reader.rows_read >= N_ROWS - 5 * SHARD_ROWS
    np.testing.assert_array_equal(dense(staged.read(0, N_ROWS).X), dense(X))
    assert os.listdir(tmp_path) == []


def _left_behind(tmp_path, X=DENSE, data="d"):
    with scratch_at(tmp_path, keep="always", data=data) as scratch:
        stage_shards(SerialCommunicator(), scratch, ArrayRows(X), cut(1), quiet)
    (left,) = tmp_path.iterdir()
    abandon(left)
    return left


@pytest.mark.parametrize("X", [DENSE, SPARSE])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_a_flipped_bit_in_what_was_left_is_read_anew(tmp_path, X, where):
    for part in ("indices", "indptr", "data", "y") if sparse.issparse(X) else ("X", "y", "weight"):
        (path,) = _left_behind(tmp_path, X).glob(f"*.{part}")
        content = bytearray(path.read_bytes())
        content[int(where * len(content)) if part != "indptr" or where else 8] ^= 16
        path.write_bytes(content)
        reader = ArrayRows(X)
        with scratch_at(tmp_path, keep="on_failure") as scratch:
            staged = stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
        assert 0 < reader.rows_read <= SHARD_ROWS
        np.testing.assert_array_equal(dense(staged.read(0, N_ROWS).X), dense(X))
        np.testing.assert_array_equal(staged.read(0, N_ROWS).y, Y)


@pytest.mark.parametrize("damage", ["journal", "garbled", "swapped", "short", "missing", "torn", "link"])
def test_files_that_do_not_fit_their_journal_are_read_anew(tmp_path, damage):
    left = _left_behind(tmp_path)
    (journal,), (values,) = left.glob("*.journal"), left.glob("*.X")
    lines = journal.read_bytes().splitlines(keepends=True)
    if damage == "journal":
        journal.write_bytes(b"".join(lines[:2]) + lines[2].replace(b"[2,", b"[3,") + b"".join(lines[3:]))
    elif damage == "garbled":
        journal.write_bytes(b"".join(lines[:2]) + lines[2].replace(b"{", b"}") + b"".join(lines[3:]))
    elif damage == "swapped":
        journal.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    elif damage == "torn":
        journal.write_bytes(b"".join(lines)[:-7])
    elif damage == "short":
        os.truncate(values, 100)
    elif damage == "missing":
        values.unlink()
    else:
        os.link(values, tmp_path / "second-name")
    reader = ArrayRows()
    with scratch_at(tmp_path, keep="always") as scratch:
        staged = stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
    after_two = N_ROWS - 2 * SHARD_ROWS
    expected = {"journal": after_two, "garbled": after_two, "torn": N_ROWS % SHARD_ROWS}.get(damage, N_ROWS)
    assert reader.rows_read == expected
    np.testing.assert_array_equal(staged.read(0, N_ROWS).X, DENSE)
    # What was mended is whole for the next one.
    abandon(next(tmp_path.glob("hpcml-*")))
    with scratch_at(tmp_path, keep="on_failure") as scratch:
        reader = ArrayRows()
        stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
    assert reader.rows_read == 0


def test_another_cut_or_other_rows_use_nothing_of_what_was_left(tmp_path):
    _left_behind(tmp_path)
    with scratch_at(tmp_path, keep="on_failure") as scratch:
        reader = ArrayRows(dtype="f4")
        stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
        assert reader.rows_read == N_ROWS
        assert len(list(scratch.path.glob("*.X"))) == 1
    left = _left_behind(tmp_path, data="other")
    with scratch_at(tmp_path, keep="on_failure") as scratch:
        assert scratch.path.exists() and left.exists()
        reader = ArrayRows()
        stage_shards(SerialCommunicator(), scratch, reader, cut(1), quiet)
        assert reader.rows_read == N_ROWS


def test_a_device_that_does_not_give_back_what_was_written_is_named(tmp_path, monkeypatch):
    write = staging.write_all

    def faulty(handle, content, offset, path):
        write(handle, bytes(len(content)) if path.suffix == ".y" else content, offset, path)

    monkeypatch.setattr(staging, "write_all", faulty)
    with (
        scratch_at(tmp_path) as scratch,
        pytest.raises(OutputError, match=r"\.y does not give back what was written at offset 0 \(shard 0\)"),
    ):
        stage_shards(SerialCommunicator(), scratch, ArrayRows(), cut(1), quiet)
    assert os.listdir(tmp_path) == []


def test_a_source_that_changed_under_a_damaged_shard_is_an_error(tmp_path):
    (path,) = _left_behind(tmp_path).glob("*.X")
    path.write_bytes(bytes(path.stat().st_size))
    with (
        scratch_at(tmp_path, keep="on_failure") as scratch,
        pytest.raises(DataError, match="rows 0 to 96 of the source are no longer those that were staged"),
    ):
        stage_shards(SerialCommunicator(), scratch, ArrayRows(DENSE + 1), cut(1), quiet)


@pytest.mark.parametrize("size", [2, 3])
def test_a_source_that_fails_on_one_rank_ends_all(tmp_path, size):
    class Failing(ArrayRows):
        def read(self, start, stop, buffers=None):
            if stop == N_ROWS:
                raise DataError("data.h5: rows 960 to 1000 cannot be read")
            return super().read(start, stop, buffers)

    def program(comm):
        with (
            scratch_at(tmp_path, comm) as scratch,
            pytest.raises(DataError, match="rows 960 to 1000") as caught,
        ):
            stage_shards(comm, scratch, Failing(), cut(size), quiet)
        return caught.value.on_all_ranks

    assert run_threads(size, program) == [True] * size
    assert os.listdir(tmp_path) == []


@contextlib.contextmanager
def most_bytes_a_file(n_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [1, 3, 14])
def test_full_scratch_is_a_warning_and_leaves_nothing(tmp_path, size):
    said = []
    source = tmp_path / "source"
    source.write_bytes(bytes(30000))
    root = tmp_path / "root"
    root.mkdir()

    def program(comm):
        with scratch_at(root, comm) as scratch:
            assert stage_shards(comm, scratch, ArrayRows(), cut(size), said.append) is None
            assert stage_files(comm, scratch, [source], said.append) is None
            comm.allgather(None)  # all have removed their own
            left = os.listdir(scratch.path)
            comm.allgather(None)  # nobody leaves before all have looked
            return left

    with most_bytes_a_file(SHARD_ROWS * N_COLUMNS * 8 // 2):
        assert sorted(run_threads(size, program)[0]) == ["lock", "owner.json"]
    assert len(said) == 2
    for sentence in said:
        assert sentence.startswith("warning: rows are not staged and are read from their source")
        assert sentence.endswith("the file would be larger than the limit allows")


@pytest.fixture
def tiny_device(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_device_that_fills_while_rows_are_written(tiny_device):
    said = []
    X = np.tile(DENSE, (10, 1))
    partition = make_partition(Source(len(X), N_COLUMNS, 56.0), 1)
    with scratch_at(tiny_device, needed=1) as scratch:
        reader = ArrayRows(X, None, None)
        assert stage_shards(SerialCommunicator(), scratch, reader, partition, said.append) is None
        assert sorted(os.listdir(scratch.path)) == ["lock", "owner.json"]
    assert said[0].endswith("no space left on the device")
    assert os.listdir(tiny_device) == []


def test_a_device_that_is_too_small_is_not_begun_with(tiny_device):
    said = []
    asked = Wishes(path=tiny_device)
    assert open_scratch(SerialCommunicator(), asked, Purpose("d", 10**6), said.append) is None
    assert "they take 1,000,000 bytes and" in said[0]
    assert os.listdir(tiny_device) == []


def _sources(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    names = ["rows.h5", "../a/rows.h5", "x y\n.h5"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    paths = [folders[0] / names[0], folders[1] / names[0], folders[1] / names[2]]
    for i, path in enumerate(paths):
        path.write_bytes(np.random.default_rng(i).bytes(1000 * i) + b"end")
    return [*paths, folders[1] / names[1]]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_copies_are_their_sources(tmp_path, size):
    paths = _sources(tmp_path)
    root = tmp_path / "root"
    root.mkdir()

    def program(comm):
        comm = Nodes(comm, min(size, 2))
        with scratch_at(root, comm) as scratch:
            copies = stage_files(comm, scratch, paths, quiet)
            assert {copy.parent for copy in copies} == {scratch.path}
            contents = [copy.read_bytes() for copy in copies]
            comm.allgather(None)  # nobody leaves before all have looked
            return contents, [copy.name[11:] for copy in copies]

    for contents, names in run_threads(size, program):
        assert contents == [path.read_bytes() for path in paths]
        assert names == ["rows.h5", "rows.h5", "x_y_.h5", "rows.h5"]
    assert os.listdir(root) == []


def test_copies_are_used_again_unless_they_or_their_sources_changed(tmp_path):
    paths = _sources(tmp_path)[:3]
    root = tmp_path / "root"
    root.mkdir()
    with scratch_at(root, keep="always") as scratch:
        before = [path.name for path in stage_files(SerialCommunicator(), scratch, paths, quiet)]
    (left,) = root.iterdir()
    abandon(left)
    inodes = [(left / name).stat().st_ino for name in before]
    with open(left / before[1], "r+b") as file:
        file.write(b"!")
    paths[2].write_bytes(b"another")
    with scratch_at(root, keep="on_failure") as scratch:
        copies = stage_files(SerialCommunicator(), scratch, paths, quiet)
        assert [copy.read_bytes() for copy in copies] == [path.read_bytes() for path in paths]
        assert copies[0].stat().st_ino == inodes[0]
    with scratch_at(root) as scratch, pytest.raises(DataError, match="missing"):
        stage_files(SerialCommunicator(), scratch, [tmp_path / "missing"], quiet)


@pytest.mark.parametrize("fault", ["device", "source"])
def test_copies_that_are_not_their_source_are_errors(tmp_path, monkeypatch, fault):
    (path, *_), write = _sources(tmp_path), copying.write_all
    root = tmp_path / "root"
    root.mkdir()

    def faulty(handle, content, offset, place):
        write(handle, bytes(len(content)) if fault == "device" else content, offset, place)
        if fault == "source":
            path.write_bytes(b"other")

    monkeypatch.setattr(copying, "write_all", faulty)
    kind, sentence = {
        "device": (OutputError, r"copy-00000-rows\.h5 does not give back what was written"),
        "source": (DataError, r"a/rows\.h5: changed while it was read"),
    }[fault]
    with scratch_at(root) as scratch, pytest.raises(kind, match=sentence):
        stage_files(SerialCommunicator(), scratch, [path], quiet)
    assert os.listdir(root) == []


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    return small.make_rows(tmp_path_factory.mktemp("rows") / "rows.h5")


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("x", ["X", "chunked", "float32", "integers", "S"])
def test_rows_of_an_hdf5_file(rows_file, tmp_path, size, x):
    def program(comm):
        names = Columns(x, "y", "w")
        with open_table(comm, [rows_file], names) as reader, scratch_at(tmp_path, comm) as scratch:
            partition = make_partition(reader.source, size, shard_bytes=4096)
            staged = stage_shards(comm, scratch, reader, partition, quiet)
            start, stop = partition.rows_of(partition.shards_of(comm.rank))
            ours, theirs = staged.read(start, stop), reader.read(start, stop)
            assert dense(ours.X).tobytes() == dense(theirs.X).tobytes()
            assert ours.y.tobytes() == theirs.y.tobytes() and ours.weight.tobytes() == theirs.weight.tobytes()
            assert staged.dtype == reader.dtype == dense(ours.X).dtype

    run_threads(size, program)


def test_a_job_that_was_killed_is_gone_on_with_and_leaves_nothing(spmd, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    killed = spmd(3, PROGRAM, root, "never", "672")
    assert killed.returncode != 0
    assert len(os.listdir(root)) == 1
    done = spmd(3, PROGRAM, root, "never", "5000", check=0)
    assert done.lines[2] == "2 read 288"  # its rows are 576 to 960; it was killed at 672
    assert os.listdir(root) == []


def test_a_job_of_other_rows_removes_what_a_killed_one_left(spmd, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    spmd(2, PROGRAM, root, "never", "672")
    (left,) = root.iterdir()
    harness.mpirun(
        2, ["-c", PROGRAM.replace('Purpose("rows"', 'Purpose("others"')], root, "never", "5000", check=0
    )
    assert os.listdir(root) == [] and not left.exists()
