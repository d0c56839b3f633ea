"""Grains: every default shard is a whole number of them, and any way to read rows gives the same digests."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from hpcml.data import Source, make_partition
from hpcml.io.index.grains import Grid, HashedReader, grain_rows_of
from hpcml.io.read.rows import Buffers
from hpcml.io.read.stored import StoredArray

ROWS = np.random.default_rng(3).integers(0, 256, (101, 3), np.uint8)


class Memory:
    """An ArrayReader of an array, which remembers what it was asked for."""

    def __init__(self, rows, chunk_rows=None, filters=()):
        chunk_shape = chunk_rows and (chunk_rows, *rows.shape[1:])
        self.stored = StoredArray("X", rows.shape, rows.dtype, None, chunk_shape, None, filters)
        self.rows, self.asked = rows, []

    def into(self, start, stop, out):
        self.asked.append((start, stop))
        out[...] = self.rows[start:stop]


def digests_of(rows, borders):
    return {
        i: xxhash.xxh3_128_digest(np.ascontiguousarray(rows[a:b]))
        for i, (a, b) in enumerate(pairwise(borders))
        if b > a
    }


def read(reader, start, stop):
    out = np.empty((stop - start, *reader.stored.shape[1:]), reader.stored.dtype)
    reader.into(start, stop, out)
    return out


@given(
    n=st.integers(1, 10**9),
    d=st.integers(1, 5000),
    itemsize=st.sampled_from([4, 8]),
    chunk_rows=st.one_of(st.just(1), st.integers(1, 100_000)),
)
def test_default_shards_are_whole_grains(n, d, itemsize, chunk_rows):
    grain = grain_rows_of(n, d * 8, chunk_rows)
    assert grain % chunk_rows == 0
    assert make_partition(Source(n, d, d * itemsize, chunk_rows), 3).shard_rows % grain == 0


@given(n=st.integers(1, 10**9), entries=st.floats(0, 5000), itemsize=st.sampled_from([4, 8]))
def test_default_shards_of_sparse_rows_are_whole_grains(n, entries, itemsize):
    rows = make_partition(Source(n, 10_000, entries * (itemsize + 4)), 3).shard_rows
    assert rows % grain_rows_of(n, entries * 12) == 0


@pytest.mark.parametrize("chunk_rows", [None, 1, 4, 7])
@given(cuts=st.sets(st.integers(1, 100)), borders=st.none() | st.lists(st.integers(0, 101), max_size=12))
def test_any_reads_in_order_give_every_digest(chunk_rows, cuts, borders):
    edges = sorted([0, *borders, 101]) if borders is not None else [*range(0, 101, 16), 101]
    found: dict[int, bytes] = {}
    grid = Grid(101, 16, None if borders is None else np.array(edges))
    reader = HashedReader(Memory(ROWS, chunk_rows), grid, found.__setitem__)
    stops = [0, *sorted(cuts), 101]
    for start, stop in pairwise(stops):
        np.testing.assert_array_equal(read(reader, start, stop), ROWS[start:stop])
    assert found == digests_of(ROWS, edges)


@given(cuts=st.lists(st.integers(0, 101), min_size=1, max_size=4))
def test_of_readers_that_share_the_rows_one_has_each_digest(cuts):
    stops = [0, *sorted(cuts), 101]
    seen: list[tuple[int, bytes]] = []
    for start, stop in pairwise(stops):
        reader = HashedReader(Memory(ROWS), Grid(101, 16), lambda *one: seen.append(one))
        middle = (start + stop) // 2
        read(reader, start, middle), read(reader, middle, stop)
    assert dict(seen) == digests_of(ROWS, [*range(0, 101, 16), 101])
    assert len(seen) == len(dict(seen))


def test_reads_that_overlap_by_one_row():
    found: dict[int, bytes] = {}
    memory = Memory(ROWS)
    reader = HashedReader(memory, Grid(101, 16), found.__setitem__)
    for start, stop in ((0, 11), (10, 31), (30, 101)):
        read(reader, start, stop)
    assert found == digests_of(ROWS, [*range(0, 101, 16), 101])
    assert sum(stop - start for start, stop in memory.asked) == 103  # nothing was read again for a digest


def test_every_pass_is_hashed():
    taken = []
    reader = HashedReader(Memory(ROWS), Grid(101, 16), lambda number, digest: taken.append(number))
    for _ in range(2):
        read(reader, 0, 100)  # the pass ends inside the last grain
    assert taken == [*range(6)] * 2
    read(reader, 100, 101)
    assert taken[-1] == 6


def test_the_head_of_a_known_grain_is_not_read():
    taken = []
    memory = Memory(ROWS)
    reader = HashedReader(
        memory, Grid(101, 16), lambda number, digest: taken.append(number), {1}.__contains__
    )
    read(reader, 20, 40)
    assert taken == []
    read(reader, 40, 48)
    assert taken == [2] and min(memory.asked)[0] == 20
    read(reader, 50, 64)
    assert taken == [2, 3] and (48, 50) in memory.asked


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f2", "?", "<i2", "<u8"])
def test_every_type_is_hashed_as_it_is_stored(kind):
    rows = ROWS.astype(kind)
    found: dict[int, bytes] = {}
    reader = HashedReader(Memory(rows), Grid(101, 16), found.__setitem__)
    held = Buffers().array("X", rows.shape, rows.dtype)
    reader.into(0, 101, held)
    assert found[0] == xxhash.xxh3_128_digest(rows[:16].tobytes())


def test_nothing_asked_is_nothing_read():
    memory = Memory(ROWS)
    read(HashedReader(memory, Grid(101, 16), lambda *one: None), 5, 5)
    assert memory.asked == []
