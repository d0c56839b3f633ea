"""Rows, blocks, shards and who owns them: the data that algorithms see.

A *block* is the rows that a kernel works on at a time, a *shard* the rows whose sum is one term of a
reproducible reduction. Both follow from the data and the spec alone; a rank owns a contiguous run of
whole shards, maybe none.
"""

from __future__ import annotations

from hpcml.data.arrays import ArrayDataset
from hpcml.data.block import (
    Block,
    Dataset,
    Matrix,
    as_shard,
    is_csr,
    join,
    make_block,
    own_runs,
    own_shards,
    part_of,
    row_view,
    run_of,
)
from hpcml.data.partition import RowPartition, RowSelection, Source, make_partition

__all__ = [
    "ArrayDataset",
    "Block",
    "Dataset",
    "Matrix",
    "RowPartition",
    "RowSelection",
    "Source",
    "as_shard",
    "is_csr",
    "join",
    "make_block",
    "make_partition",
    "own_runs",
    "own_shards",
    "part_of",
    "row_view",
    "run_of",
]
