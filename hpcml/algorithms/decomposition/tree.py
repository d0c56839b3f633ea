"""Something of every shard merged by twos, in a tree that the numbers of shards fix."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from hpcml.data import Dataset, own_shards
from hpcml.data.partition import RowPartition

__all__ = ["merge_in_tree"]

Part = NDArray[np.float64]
Merge = Callable[[Part, Part], Part]
Parts = dict[int, Part]


def merge_in_tree(data: Dataset, leaves: Iterable[Part], merge: Merge, width: int) -> Part:
    """Return the merged parts of all shards, the same on every rank.

    Collective: two messages for each level of the tree where a border between ranks cuts a pair, at most
    ``log2(n_shards)`` of them, and one at the end. Shards 2i and 2i + 1 make a pair, then pairs 2i and
    2i + 1, and so on; what has no partner goes up as it is. So the order of merging does not depend on who
    owns which shards. The rank with the first shard of a pair merges it.

    Parameters
    ----------
    data : Dataset
    leaves : iterable of (any, width) array
        Of my shards in order; as many rows as each has.
    merge : callable
        Gives at most `width` rows.
    width : int

    Returns
    -------
    (rows, width) array
    """
    partition = data.partition
    levels = _merged_here(own_shards(data).start, leaves, merge)
    for level in range(max(partition.n_shards - 1, 0).bit_length()):
        mine = levels.setdefault(level, {})
        if crossings := _crossings(partition, level):
            mine.update(_exchanged(data, level, mine, crossings, width))
        up = levels.setdefault(level + 1, {})
        for i in sorted(mine):
            if i % 2 == 0:
                up[i // 2] = merge(mine[i], mine[i + 1]) if i + 1 in mine else mine[i]
        del levels[level]
    return _from_first(data, [part for parts in levels.values() for part in parts.values()], width)


def _merged_here(first: int, leaves: Iterable[Part], merge: Merge) -> dict[int, Parts]:
    """Return, by level and place in it, what is left when every pair that is all mine was merged."""
    waiting: list[tuple[int, int, Part]] = []
    for i, part in enumerate(leaves, start=first):
        level = 0
        while i % 2 and waiting and waiting[-1][:2] == (level, i - 1):
            part = merge(waiting.pop()[2], part)
            level, i = level + 1, i // 2
        waiting.append((level, i, part))
    levels: dict[int, Parts] = {}
    for level, i, part in waiting:
        levels.setdefault(level, {})[i] = part
    return levels


def _crossings(partition: RowPartition, level: int) -> list[tuple[int, int, int]]:
    """Return (place of the second, its owner, the first's owner) of the pairs that two ranks share."""
    found = {}
    for border in partition.borders[1:-1]:
        pair = max(border - 1, 0) >> (level + 1)
        start, middle = pair << (level + 1), ((pair << 1) + 1) << level
        if start < border <= middle < partition.n_shards:
            found[2 * pair + 1] = (_owner(partition, middle), _owner(partition, start))
    return [(place, *owners) for place, owners in sorted(found.items())]


def _owner(partition: RowPartition, shard: int) -> int:
    return bisect_right(partition.borders, shard) - 1


def _exchanged(
    data: Dataset, level: int, mine: Parts, crossings: list[tuple[int, int, int]], width: int
) -> Parts:
    """Send the second of pairs to the owner of the first; return those that came. Collective."""
    sent = [np.zeros(0, np.uint8)] * data.comm.size
    for place, _, target in crossings:
        if place in mine:
            sent[target] = np.ascontiguousarray(mine.pop(place)).reshape(-1).view(np.uint8)
    came, owned = data.comm.alltoall(sent), own_shards(data)
    return {
        place: came[source].view(np.float64).reshape(-1, width)
        for place, source, _ in crossings
        if (place - 1) << level in owned
    }


def _from_first(data: Dataset, mine: list[Part], width: int) -> Part:
    """Return the one part that is left, on every rank. Collective, one message."""
    # The count of its rows goes below it.
    whole = np.zeros((width + 1, width))
    for part in mine:
        whole[: len(part)], whole[-1, 0] = part, len(part)
    (total,) = data.comm.allreduce(whole + 0.0)  # -0.0 plus another rank's 0.0 is 0.0
    return np.asarray(total[: int(total[-1, 0])])
