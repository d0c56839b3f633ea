"""Files in libsvm format as rows of X and y; the columns are counted over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.data import RowSelection
from hpcml.errors import DataError, SpecError, shared
from hpcml.io.convert.encode import choose_layout
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.rows import Encoding, EntryRows, RowRun, index_type
from hpcml.io.tables.columns import UnusableValue
from hpcml.io.tables.libsvm import SparseText, joined, parse_libsvm
from hpcml.io.tables.text import deal_spans, read_segments

__all__ = ["read_sparse"]


def read_sparse(
    comm: Communicator, files: Sequence[Path], sizes: Sequence[int], recipe: Recipe, n_before: int = 0
) -> Encoding:
    """Read this rank's part of libsvm files.

    Collective, about fourteen small messages; of the data, only the head of a byte range moves.

    Parameters
    ----------
    comm : Communicator
    files : sequence of Path
        Their rows follow each other.
    sizes : sequence of int
        Bytes of each file.
    recipe : Recipe
        Without anything that speaks of named columns; the target is "y", or not given.
    n_before : int
        Rows of the sources that stand before these files.

    Raises
    ------
    DataError
        With file and data row: what is no number, an index that does not ascend or is out of range.
    SpecError
        The recipe speaks of named columns.
    """
    with agreed(comm):
        _refuse_columns(recipe)
    segments = read_segments(comm, files, deal_spans(sizes, comm.rank, comm.size), ["libsvm"] * len(files))
    parts: list[tuple[Path, SparseText]] = []
    bad: tuple[Path, UnusableValue] | None = None
    with agreed(comm):
        for segment in segments:
            try:
                parts.append((files[segment.file], parse_libsvm(segment.text)))
            except UnusableValue as error:
                bad = files[segment.file], error
                break
    n_local = sum(part.labels.size for _, part in parts)
    said = comm.allgather(n_local)
    start, n_read = sum(said[: comm.rank]), sum(said)
    with agreed(comm):
        if bad is not None:
            raise DataError(_located(bad[0], start + n_local + bad[1].row, str(bad[1])))
        _check_finite(parts, start)
    return _encoded(comm, [part for _, part in parts], recipe, n_read, (n_before, start))


def _located(path: Path, row: int, problem: str) -> str:
    return f"{path}: data row {row} (the first is 0): {problem}"


def _refuse_columns(recipe: Recipe) -> None:
    """Raise a SpecError for what needs names of columns."""
    named = [name for name in ("numeric", "categorical", "include", "exclude") if getattr(recipe, name)]
    steps = [name for name in recipe.steps.describe() if name != "sample"]
    for name in (*named, *steps):
        raise SpecError(f"{name}: libsvm files have no named columns; leave it out")
    if recipe.beside:
        raise SpecError(f"{recipe.beside[0]!r}: libsvm files have no columns beside X; leave it out")
    if recipe.target not in (None, "y"):
        raise SpecError(f"the label of libsvm files is called 'y'; {recipe.target!r} is not there")


def _check_finite(parts: list[tuple[Path, SparseText]], row: int) -> None:
    for path, part in parts:
        rows = np.repeat(np.arange(part.labels.size), part.counts)
        bad = np.concatenate([np.flatnonzero(~np.isfinite(part.labels)), rows[~np.isfinite(part.data)]])
        if bad.size:
            raise DataError(_located(path, row + int(bad.min()), "a number is missing or infinite"))
        row += part.labels.size


def _encoded(
    comm: Communicator, parts: list[SparseText], recipe: Recipe, n_read: int, before: tuple[int, int]
) -> Encoding:
    """Agree on columns, labels and layout. Collective."""
    n_before, start = before
    text = _sampled(joined(parts), recipe, n_before + start)
    base, n_features = _columns(comm, text.indices, recipe)
    kept = text.data != 0
    rows = np.repeat(np.arange(text.labels.size), text.counts)[kept]
    with np.errstate(over="ignore"):
        data = text.data[kept].astype(recipe.dtype, copy=False)
    y = np.zeros(0)
    with agreed(comm):
        if not np.isfinite(data).all():
            raise DataError(f"a value is too large for {recipe.dtype}")
        y = _labels(text.labels, recipe)
    said = comm.allgather(text.labels.size)
    coded = Encoding(n_read, sum(said), n_features, dtype=recipe.dtype, labelled=True)
    coded.columns = [{"role": "libsvm", "index_base": str(base)}]
    if coded.n_samples == 0 and n_before == 0:
        raise shared(DataError("the files have no rows" if n_read == 0 else "the sample has no rows"))
    entry = choose_layout(comm, coded, recipe, data.size)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=text.labels.size))]).astype(np.int64)
    indices = (text.indices[kept] - base).astype(index_type(n_features))
    entries = EntryRows(data, indices, indptr, n_features)
    coded.runs = [RowRun(sum(said[: comm.rank]), entry, text.labels.size, entries, y)]
    return coded


def _sampled(text: SparseText, recipe: Recipe, first: int) -> SparseText:
    """Return the rows that the recipe's sample keeps."""
    steps = recipe.steps
    if steps.fraction == 1.0:
        return text
    keep = RowSelection(steps.seed, fraction=steps.fraction).keeps(np.arange(text.labels.size) + first)
    entries = np.repeat(keep, text.counts)
    return SparseText(text.labels[keep], text.counts[keep], text.indices[entries], text.data[entries])


def _columns(comm: Communicator, indices: NDArray[np.int64], recipe: Recipe) -> tuple[int, int]:
    """Return the number of the first column and how many there are. Collective, one message."""
    ends = [int(indices.min()), -int(indices.max())] if indices.size else [2**62, 2**62]
    (found,) = comm.allreduce(np.array(ends, np.int64), op="min")
    lowest, highest = int(found[0]), -int(found[1])
    if highest < 0:
        lowest, highest = 1, 0
    base = int(lowest > 0) if recipe.index_base == "auto" else int(recipe.index_base)
    if lowest < base:
        raise shared(DataError("index 0 occurs, and the first column is to be 1: write index base 0"))
    n_features = highest - base + 1 if recipe.n_features is None else recipe.n_features
    if highest - base >= n_features:
        raise shared(DataError(f"index {highest} occurs, and X is to have {n_features} columns"))
    if n_features < 1:
        raise shared(DataError("no row has an entry; say how many columns there are"))
    return base, n_features


def _labels(labels: NDArray[np.float64], recipe: Recipe) -> Any:
    """Return y by the recipe's threshold or mapping."""
    if recipe.threshold is not None:
        return (labels > recipe.threshold).astype(np.float64)
    if recipe.mapping is None:
        return labels
    y = np.full(labels.size, np.nan)
    for text, number in recipe.mapping.items():
        try:
            y[labels == float(text)] = float(number)
        except ValueError:
            raise SpecError(f"map: {text!r} is no number, and the labels of libsvm files are") from None
    lost = np.flatnonzero(np.isnan(y))
    if lost.size:
        raise DataError(f"the label {labels[lost[0]]:g} is none of the mapping's {sorted(recipe.mapping)}")
    return y
