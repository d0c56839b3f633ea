"""The first look at the data: whether it is fit to learn from, and which data it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from hpcml.algorithms.distinct import distinct
from hpcml.collectives import agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset, is_csr
from hpcml.errors import DataError, shared

__all__ = ["Names", "Survey", "check_block", "survey"]

_MAX_CLASSES = 1000
_WORDS = 2


class Names(NamedTuple):
    """What X, y and the other columns are called in errors: file and dataset, say.

    Where `exposure` is given, offsets are logarithms of it.
    """

    X: str = "X"
    y: str = "y"
    weight: str = "weight"
    offset: str = "offset"
    exposure: str | None = None


_PLAIN_NAMES = Names()


class Survey(NamedTuple):
    """What the first pass found, the same on every rank.

    Attributes
    ----------
    n_rows : int
    total_weight : float
    classes : (n_classes,) array
        Distinct labels of the rows whose weight is above zero, in order; empty unless they were asked for.
    digest : str
        Identifies the rows, labels, weights and offsets by content and place, 32 hexadecimal digits (XXH3);
        zeros if it was not asked for.
    """

    n_rows: int
    total_weight: float
    classes: NDArray[np.float64]
    digest: str


def survey(
    data: Dataset, *, classes: bool, names: Names = _PLAIN_NAMES, finite: bool = False, digest: bool = True
) -> Survey:
    """Check that X, y, weight and offset are finite and the weights usable; collect labels and a digest.

    Collective: one pass, six small messages.

    Parameters
    ----------
    data : Dataset
    classes : bool
        Collect labels.
    names : Names
    finite : bool
        X is known to be finite, and is not looked through for that.
    digest : bool
        Take the digest too.

    Raises
    ------
    DataError
        NaN or Inf, a negative weight, an exposure that is not above 0, weights that are all zero, no rows, or
        more than 1,000 classes; it names the first row of the lowest rank that has one.
    """
    found: set[float] = set()
    words = np.zeros(_WORDS, np.int64)
    weights: list[NDArray[np.float64]] = []
    n_rows = 0
    with agreed(data.comm):
        for block in data.blocks():
            check_block(block.without_rows() if finite else block, names)
            n_rows += block.n_rows
            weights.append(_weight_sums(block))
            if digest:
                words += _block_digest(block)
            if classes and block.y is not None:
                found |= set((distinct(_weighing(block)) + 0.0).tolist())  # -0.0 is 0.0
                _check_number(found, names)
    labels = sorted(set().union(*data.comm.allgather(sorted(found))))
    _check_number(labels, names)
    counts, words = data.comm.allreduce(np.array([n_rows]), words)
    total = _total(data, weights)
    if counts[0] == 0:
        raise shared(DataError(f"{names.X}: no rows are left for this part of the split"))
    if total <= 0:
        raise shared(DataError(f"{names.weight}: the weights are all zero"))
    return Survey(int(counts[0]), total, np.array(labels), words.view(np.uint64).tobytes().hex())


def _check_number(labels: Collection[float], names: Names) -> None:
    if len(labels) > _MAX_CLASSES:
        sentence = f"{names.y} has more than {_MAX_CLASSES} distinct values: not a class label"
        raise shared(DataError(sentence))


def _weighing(block: Block) -> NDArray[np.float64]:
    """Return the labels of rows that weigh: a class of weight zero would have no optimum but infinity."""
    assert block.y is not None
    return block.y if block.weight is None else block.y[block.weight > 0]


def _weight_sums(block: Block) -> NDArray[np.float64]:
    if block.weight is None:
        return np.diff(block.shards).astype(np.float64)
    return block.shard_sums(block.weight)


def _total(data: Dataset, weights: list[NDArray[np.float64]]) -> float:
    terms = np.concatenate([np.zeros(0), *weights])[:, None]
    return float(reduce_partials(data.comm, lambda: [terms], 1).total[0])


def check_block(block: Block, names: Names) -> None:
    """Refuse rows that are not fit to compute with. Local.

    Raises
    ------
    DataError
        NaN or Inf, a negative weight or an exposure that is not above 0; it names the first row that has one.
    """
    values = block.X.data if is_csr(block.X) else block.X
    # A sum is NaN or Inf whenever an element is, and is far cheaper than a mask; it may also overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(values.sum())
    if suspicious:
        _refuse_nonfinite(block, names.X)
    for name, column in ((names.y, block.y), (names.weight, block.weight)):
        if column is not None and not np.isfinite(column).all():
            row = int(np.argmin(np.isfinite(column)))
            raise DataError(f"{name}: row {block.index[row]} is {column[row]}")
    if block.weight is not None and (block.weight < 0).any():
        row = int(np.argmax(block.weight < 0))
        raise DataError(f"{names.weight}: row {block.index[row]} is negative ({block.weight[row]:g})")
    if block.offset is not None and not np.isfinite(block.offset).all():
        row = int(np.argmin(np.isfinite(block.offset)))
        _refuse_offset(names, int(block.index[row]), float(block.offset[row]))


def _refuse_offset(names: Names, row: int, offset: float) -> None:
    if names.exposure is None:
        raise DataError(f"{names.offset}: row {row} is {offset}")
    what = {np.inf: "Inf", -np.inf: "0"}.get(offset, "below 0 or NaN")
    raise DataError(f"{names.exposure}: row {row} is {what}; an exposure is finite and above 0")


def _refuse_nonfinite(block: Block, name: str) -> None:
    X = block.X
    values = np.asarray(X.data if is_csr(X) else X.ravel())
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return
    first = int(bad[0])
    if is_csr(X):
        row, column = int(np.searchsorted(X.indptr, first, side="right")) - 1, int(X.indices[first])
    else:
        row, column = divmod(first, X.shape[1])
    raise DataError(f"{name}: row {block.index_of(row, row + 1)[0]}, column {column} is {values[first]}")


def _block_digest(block: Block) -> NDArray[np.int64]:
    """Return the sum over shards of a 128-bit digest, by words modulo 2^64: any split adds to the same."""
    total = np.zeros(_WORDS, np.int64)
    for start, stop in zip(block.shards[:-1], block.shards[1:], strict=True):
        hasher = xxh3_128()
        for part in _parts(block, int(start), int(stop)):
            hasher.update(np.ascontiguousarray(part).data)
        total += np.frombuffer(hasher.digest(), np.int64)
    return total


def _parts(block: Block, start: int, stop: int) -> list[NDArray[Any]]:
    rows = slice(start, stop)
    labels = [column[rows] for column in (block.y, block.weight) if column is not None]
    # Of itself an offset would look like a weight.
    labels += [] if block.offset is None else [np.frombuffer(b"offset", np.uint8), block.offset[rows]]
    X = block.X
    index = block.index_of(start, stop)
    if not is_csr(X):
        return [index, X[rows], *labels]
    entries = slice(X.indptr[start], X.indptr[stop])
    counts = np.diff(X.indptr[start : stop + 1]).astype(np.int64)
    return [index, counts, X.indices[entries].astype(np.int64), X.data[entries], *labels]
