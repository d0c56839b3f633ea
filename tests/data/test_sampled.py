"""A sample of shards: keyed, nested, and each shard as a file would give it."""

from __future__ import annotations

import numpy as np
import pytest

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.data import ArrayDataset, RowPartition, make_block, part_of
from hpcml.data.sampled import Sampled, shuffled_shards


class Rows:
    """Rows 0, 1, ... in shards of 4, of which those divisible by three do not take part."""

    def __init__(self, comm, n=50):
        borders = tuple(13 * r // comm.size for r in range(comm.size + 1))
        self.comm, self.n_samples, self.n_features = comm, n, 1
        self.partition = RowPartition(n, 4, 2, borders)
        mine = self.partition.shards_of(comm.rank)
        rows = np.arange(*self.partition.rows_of(mine))
        self.block = make_block(rows[:, None] * 1.0, rows * 1.0, None, mine, self.partition, rows % 3 > 0)

    def blocks(self, shard=None):
        yield part_of(self.block, shard - self.partition.shards_of(self.comm.rank).start)


def test_an_order_by_the_seed_alone():
    partition = RowPartition(1000, 8, 8, (0, 125))
    order = shuffled_shards(partition, 5)
    assert sorted(order.tolist()) == list(range(125))
    assert (order == shuffled_shards(RowPartition(1000, 8, 8, (0, 20, 90, 125)), 5)).all()
    assert (order != shuffled_shards(partition, 6)).any()
    assert abs(np.corrcoef(order, np.arange(125))[0, 1]) < 0.3


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_the_rows_of_the_sample_on_any_number_of_ranks(size):
    chosen = np.array([9, 0, 12, 3])

    def program(comm):
        found = []
        for block in Sampled(Rows(comm), chosen).blocks():
            assert block.n_shards == 1
            assert (block.index == block.y).all()
            assert block.start % 4 == 0
            found.append((block.start, block.y.tolist()))
        return found

    parts = run_threads(size, program)
    rows = [(4 * i, [float(r) for r in range(4 * i, min(4 * i + 4, 50)) if r % 3]) for i in sorted(chosen)]
    assert [shard for part in parts for shard in part] == rows


def test_one_shard_and_the_facts():
    X = np.arange(9000.0)[:, None]
    data = ArrayDataset(X, X[:, 0], comm=SerialCommunicator())
    sample = Sampled(data, np.arange(1), 4096)
    assert (sample.comm, sample.partition, sample.n_features) == (data.comm, data.partition, 1)
    assert sample.n_samples == 4096
    (one,) = sample.blocks(1)
    assert one.index[0] == one.y[0] == data.partition.rows_of(range(1, 2))[0]
