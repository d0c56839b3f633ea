"""Staging that goes on with another number of ranks: runs that begin at the same shard are used again."""

from __future__ import annotations

import os

import numpy as np
import pytest
from nodes import Nodes
from staged import (
    DENSE,
    N_ROWS,
    PROGRAM,
    SHARD_ROWS,
    SPARSE,
    ArrayRows,
    Y,
    abandon,
    cut,
    dense,
    quiet,
    scratch_at,
)

from hpcml.collectives import run_threads
from hpcml.io.scratch.staging import stage_shards


def staged(root, size, X, n_nodes=1, **keys):
    """Stage rows on so many ranks; return what each read of the source, and what it then has."""

    def program(comm):
        comm = Nodes(comm, min(n_nodes, size))
        reader, partition = ArrayRows(X), cut(size)
        with scratch_at(root, comm, keep="always", **keys) as place:
            rows = stage_shards(comm, place, reader, partition, quiet)
        start, stop = partition.rows_of(partition.shards_of(comm.rank))
        return reader.rows_read, rows.read(start, stop)

    found = run_threads(size, program)
    for folder in root.iterdir():
        abandon(folder)
    parts = [rows for _, rows in found]
    np.testing.assert_array_equal(np.concatenate([dense(part.X) for part in parts]), dense(X))
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), Y)
    return [n for n, _ in found]


def rows_of(size, rank):
    return cut(size).rows_of(cut(size).shards_of(rank))


@pytest.mark.parametrize("X", [DENSE, SPARSE])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 3, 5, 14])
def test_a_run_that_begins_at_the_same_shard_is_used_again(tmp_path, X, before, after):
    assert sum(staged(tmp_path, before, X)) == N_ROWS
    left = {start: stop for start, stop in (rows_of(before, rank) for rank in range(before)) if stop > start}
    read = staged(tmp_path, after, X)
    for rank in range(after):
        start, stop = rows_of(after, rank)
        there = min(left.get(start, start), stop)
        assert read[rank] == stop - there, (rank, left)
    assert read[0] < rows_of(after, 0)[1] or after == 14  # the first rank always has something
    # What was cut or gone on with is whole for the next one.
    assert staged(tmp_path, after, X) == [0] * after


@pytest.mark.parametrize("X", [DENSE, SPARSE])
def test_on_other_nodes(tmp_path, X):
    for size, n_nodes in ((4, 2), (2, 1), (4, 2), (3, 3)):  # which node goes on with which is left to chance
        assert sum(staged(tmp_path, size, X, n_nodes)) <= N_ROWS


def test_damage_in_what_is_cut_is_read_anew(tmp_path):
    staged(tmp_path, 1, DENSE)
    (values,) = tmp_path.glob("*/*.X")
    content = bytearray(values.read_bytes())
    content[SHARD_ROWS * 7 * 8 + 5] ^= 1
    values.write_bytes(content)
    read = staged(tmp_path, 2, DENSE)
    start, stop = rows_of(2, 1)
    assert read == [SHARD_ROWS, stop - start]


@pytest.mark.parametrize("n", [2, 3])
def test_a_killed_job_goes_on_with_more_ranks(spmd, tmp_path, n):
    root = tmp_path / "root"
    root.mkdir()
    assert spmd(1, PROGRAM, root, "never", "672").returncode != 0
    done = spmd(n, PROGRAM, root, "never", "5000", check=0)
    # Ten shards of 96 rows, of which seven are there; the other ranks begin inside of them.
    assert done.lines == [["0 read 0", "1 read 480"], ["0 read 0", "1 read 288", "2 read 384"]][n - 2]
    assert os.listdir(root) == []
