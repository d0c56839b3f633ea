"""The tree over shards: its order, its messages, and ranks that own whatever they like."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.algorithms.decomposition.tree import merge_in_tree
from hpcml.collectives import CountingCommunicator, run_threads
from hpcml.data import RowPartition

WIDTH = 64


def merged(n_shards, borders):
    """Merge words that say in which order: '(ab)' for a and b; return what ranks have, and messages."""

    def join(a, b):
        return coded(f"({text(a)}{text(b)})")

    def program(comm):
        counting = CountingCommunicator(comm)
        data = SimpleNamespace(comm=counting, partition=RowPartition(n_shards, 1, 1, borders))
        mine = data.partition.shards_of(comm.rank)
        found = merge_in_tree(data, (coded(chr(97 + i)) for i in mine), join, WIDTH)
        return text(found), counting.calls

    return run_threads(len(borders) - 1, program)


def coded(word):
    row = np.zeros((1, WIDTH))
    row[0, : len(word)] = [ord(letter) for letter in word]
    return row


def text(row):
    return "".join(chr(int(code)) for code in row[0] if code)


def expected(words):
    """Return the order of a tree by twos, written down level by level."""
    while len(words) > 1:
        pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
        words = [f"({''.join(pair)})" if len(pair) == 2 else pair[0] for pair in pairs]
    return words[0]


@settings(max_examples=50)
@given(st.integers(1, 17), st.lists(st.integers(0, 17), max_size=5))
def test_the_order_does_not_depend_on_owners(n_shards, cuts):
    borders = (0, *sorted(min(cut, n_shards) for cut in cuts), n_shards)
    wanted = expected([chr(97 + i) for i in range(n_shards)])
    assert {word for word, _ in merged(n_shards, borders)} == {wanted}


@pytest.mark.parametrize(
    ("borders", "levels"),
    [((0, 16), 0), ((0, 8, 16), 1), ((0, 4, 8, 12, 16), 2), ((0, 3, 16), 3), ((0, 0, 16, 16), 0)],
)
def test_messages_only_where_a_border_cuts_a_pair(borders, levels):
    for _, calls in merged(16, borders):
        assert calls["alltoall"] == levels
        assert calls["allreduce"] == 1
