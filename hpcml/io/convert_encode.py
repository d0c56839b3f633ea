"""Columns of a table as rows of X and y: missing values, vocabularies, one-hot codes, dense or CSR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.collectives.reproducible import reduce_partials
from hpcml.errors import DataError
from hpcml.io.recipe import Recipe
from hpcml.io.tables import Piece, TablePart
from hpcml.io.tables_columns import UnusableValue

__all__ = ["CSRRows", "Encoding", "encode_part"]

MISSING = "(missing)"
_MEAN_ROWS = 1 << 16
_SUM_ROWS = 1 << 24
"""Rows of one reproducible sum, which takes 2^24 terms."""
_SPARSE_SHARE = 0.25
_CLASSES = 4000
"""Texts that a target may have: the vocabulary is an HDF5 attribute, which has 64 KiB."""


@dataclass
class _Column:
    """Values of a column on this rank: numbers with NaN, or codes into `texts` with -1, where missing."""

    name: str
    values: NDArray[Any]
    texts: list[str] | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value."""
        lost: NDArray[np.bool_] = np.isnan(self.values) if self.texts is None else self.values < 0
        return lost

    def used_texts(self) -> list[str]:
        """Return the texts that occur."""
        codes = np.unique(self.values)
        return [] if self.texts is None else [self.texts[code] for code in codes if code >= 0]

    def recode(self, vocabulary: Sequence[str], missing: int = -1) -> NDArray[np.int32]:
        """Return codes into `vocabulary`, and `missing` where there is no value."""
        places = {text: i for i, text in enumerate(vocabulary)}
        table = [places.get(text, -1) for text in self.texts or []]
        codes: NDArray[np.int32] = np.array([*table, missing], np.int32)[self.values]
        return codes


@dataclass(frozen=True)
class _Atom:
    """At most one entry a row: `values` in column `offset`, or 1 in column ``offset + code`` if code >= 0."""

    offset: int
    values: NDArray[Any] | None = None
    codes: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class CSRRows:
    """A run of rows of X in CSR form; `counts` are the entries of each row."""

    data: NDArray[Any]
    indices: NDArray[Any]
    counts: NDArray[np.int64]


@dataclass
class Encoding:
    """Rows of this rank of X and y, and what is the same on every rank.

    Parameters
    ----------
    n_read, n_samples, n_features, n_entries : int
        Rows read and kept, columns of X and its entries that are not zero, over all ranks.
    starts : tuple of int
        The first row of this rank, and the first entry.
    layout : {"dense", "csr"}
    dtype : str
    features : list of str
        A name for each column of X.
    columns : list of dict
        Role, vocabulary and mean of each table column, as JSON can say them.
    classes : list of str or None
        The texts that y's codes number.
    y : array of float64 or None
    """

    n_read: int
    n_samples: int = 0
    n_features: int = 0
    n_entries: int = 0
    starts: tuple[int, int] = (0, 0)
    layout: str = "dense"
    dtype: str = "float64"
    features: list[str] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    classes: list[str] | None = None
    y: NDArray[np.float64] | None = None
    n_local_samples: int = 0
    atoms: list[_Atom] = field(default_factory=list)

    def dense(self, start: int, stop: int) -> NDArray[Any]:
        """Return local rows ``start <= i < stop`` of X. Local."""
        X = np.zeros((stop - start, self.n_features), self.dtype)
        for atom in self.atoms:
            if atom.values is not None:
                X[:, atom.offset] = atom.values[start:stop]
            elif atom.codes is not None:
                codes = atom.codes[start:stop]
                rows = np.flatnonzero(codes >= 0)
                X[rows, atom.offset + codes[rows]] = 1.0
        return X

    def csr(self, start: int, stop: int) -> CSRRows:
        """Return local rows ``start <= i < stop`` of X without their zeros, columns ascending. Local."""
        index = np.int32 if self.n_features < 2**31 else np.int64
        values = np.zeros((stop - start, len(self.atoms)), self.dtype)
        columns = np.zeros(values.shape, index)
        for j, atom in enumerate(self.atoms):
            columns[:, j] = atom.offset
            if atom.values is not None:
                values[:, j] = atom.values[start:stop]
            elif atom.codes is not None:
                columns[:, j] += atom.codes[start:stop]
                values[:, j] = atom.codes[start:stop] >= 0
        kept = values != 0
        return CSRRows(values[kept], columns[kept], np.count_nonzero(kept, axis=1))


def encode_part(comm: Communicator, part: TablePart, recipe: Recipe) -> Encoding:
    """Return this rank's rows encoded with what all ranks agree on.

    Collective, about eight small messages.

    Parameters
    ----------
    comm : Communicator
    part : TablePart
    recipe : Recipe

    Raises
    ------
    DataError
        With file, column and data row: a missing value under "error", text in a numeric column, an infinite
        value, a target that the mapping lacks. Or no row is left.
    """
    features: list[_Column] = []
    target: _Column | None = None
    n_rows = sum(piece.columns.n_rows for piece in part.pieces)
    keep = np.ones(n_rows, bool)
    with agreed(comm):
        features = [_load(part, name, _is_numeric(part, name)) for name in part.roles]
        if recipe.target is not None:
            target = _load(part, recipe.target, _target_is_numeric(part, recipe))
    with agreed(comm):
        columns = [*features, *([] if target is None else [target])]
        _check_finite(part, columns)
        if recipe.missing == "drop":
            for column in columns:
                keep &= ~column.missing
        else:
            _check_missing(part, features if recipe.missing == "error" else [], target)
        if target is not None and recipe.mapping is not None:
            _check_mapping(part, target, recipe.mapping, keep)
    for column in columns:
        column.values = column.values[keep]
    return _agree(comm, part, recipe, features, target)


def _is_numeric(part: TablePart, name: str) -> bool:
    role = part.roles[name]
    return role == "numeric" if role else part.kinds[name] in ("number", "bool")


def _target_is_numeric(part: TablePart, recipe: Recipe) -> bool:
    if recipe.mapping is not None:
        return False
    return recipe.threshold is not None or part.kinds[str(recipe.target)] != "text"


def _load(part: TablePart, name: str, numeric: bool) -> _Column:
    """Return this rank's values of a column."""
    values: list[NDArray[Any]] = []
    texts: dict[str, int] = {}
    for piece in part.pieces:
        try:
            if numeric:
                values.append(piece.columns.numbers(name, part.kinds[name]))
                continue
            codes, local = piece.columns.texts(name)
        except UnusableValue as error:
            raise _located(piece, name, error.row, str(error)) from None
        places = [texts.setdefault(text, len(texts)) for text in local]
        values.append(np.array([*places, -1], np.int32)[codes])
    joined = np.concatenate(values) if values else np.zeros(0, np.float64 if numeric else np.int32)
    return _Column(name, joined, None if numeric else list(texts))


def _located(piece: Piece, name: str, row: int, problem: str) -> DataError:
    where = f"{piece.path}: column {name!r}, data row {piece.start + row} (the first is 0)"
    return DataError(f"{where}: {problem}")


def _raise_at(part: TablePart, name: str, row: int, problem: str) -> None:
    """Raise a DataError for a local row."""
    for piece in part.pieces:
        if row < piece.columns.n_rows:
            raise _located(piece, name, row, problem)
        row -= piece.columns.n_rows


def _first(masks: Sequence[tuple[str, NDArray[np.bool_]]]) -> tuple[int, str] | None:
    """Return the first row that a mask marks, and the column's name."""
    found = [(int(mask.argmax()), name) for name, mask in masks if mask.any()]
    return min(found, key=lambda one: one[0], default=None)


def _check_finite(part: TablePart, columns: Sequence[_Column]) -> None:
    first = _first([(c.name, np.isinf(c.values)) for c in columns if c.texts is None])
    if first:
        _raise_at(part, first[1], first[0], "the number is infinite")


def _check_missing(part: TablePart, features: Sequence[_Column], target: _Column | None) -> None:
    first = _first([(column.name, column.missing) for column in features])
    lost = None if target is None else _first([(target.name, target.missing)])
    if first and (lost is None or first[0] <= lost[0]):
        _raise_at(part, first[1], first[0], "the value is missing (data.missing says what to do then)")
    if lost:
        _raise_at(part, lost[1], lost[0], "the target is missing (data.missing: drop leaves such rows out)")


def _check_mapping(part: TablePart, target: _Column, mapping: Any, keep: NDArray[np.bool_]) -> None:
    known = {str(text) for text in mapping}
    unknown = [text not in known for text in target.texts or []]
    bad = np.array([*unknown, False])[target.values] & keep
    first = _first([(target.name, bad)])
    if first:
        text = (target.texts or [])[target.values[first[0]]]
        _raise_at(part, first[1], first[0], f"{text!r} is none of the mapping's {sorted(known)}")


def _agree(
    comm: Communicator, part: TablePart, recipe: Recipe, features: list[_Column], target: _Column | None
) -> Encoding:
    """Agree on vocabularies, means and layout. Collective."""
    columns = [*features, *([] if target is None else [target])]
    n_local = int(columns[0].values.size)
    texts = {column.name: column.used_texts() for column in columns if column.texts is not None}
    said = comm.allgather([n_local, texts])
    vocabularies = {name: sorted({text for _, each in said for text in each[name]}) for name in texts}
    coded = Encoding(part.n_samples, sum(n for n, _ in said), dtype=recipe.dtype, n_local_samples=n_local)
    first = sum(n for n, _ in said[: comm.rank])
    if coded.n_samples == 0:
        raise DataError(
            "every row lacks a value: none is left" if part.n_samples else "the table has no rows"
        )
    means = _means(comm, features, first, coded.n_samples) if recipe.missing == "mean" else {}
    for column in features:
        _add_feature(coded, recipe, column, vocabularies.get(column.name), means.get(column.name))
    coded.n_features = len(coded.features)
    if coded.n_features == 0:
        raise DataError("no feature has a value")
    _add_target(coded, recipe, target, vocabularies)
    _agree_layout(comm, coded, recipe, first)
    return coded


def _means(comm: Communicator, features: list[_Column], first: int, n_samples: int) -> dict[str, float]:
    """Return the mean of the present values of each numeric column. Collective, two messages per 2^24 rows.

    Groups of rows are counted from the table's start, so the bits do not depend on the ranks.
    """
    numeric = [column for column in features if column.texts is None]
    if not numeric:
        return {}
    total, count = np.zeros(len(numeric)), np.zeros(len(numeric), np.int64)
    for group in range(0, n_samples, _SUM_ROWS):
        start, stop = (max(at - first, 0) for at in (group, group + _SUM_ROWS))
        present = [int(np.count_nonzero(~np.isnan(c.values[start:stop]))) for c in numeric]
        terms = partial(_terms, numeric, start, stop)
        reduced = reduce_partials(comm, terms, len(numeric), None, present)
        total, count = total + reduced.total, count + np.array(reduced.counts, np.int64)
    for column, n in zip(numeric, count, strict=True):
        if n == 0:
            raise DataError(
                f"column {column.name!r} has no value whose mean could stand for the missing ones"
            )
    return {column.name: float(t / n) for column, t, n in zip(numeric, total, count, strict=True)}


def _terms(numeric: list[_Column], start: int, stop: int) -> Iterator[NDArray[np.float64]]:
    """Yield the values of local rows, zero where missing, a run of rows at a time."""
    stop = min(stop, numeric[0].values.size if numeric else 0)
    for row in range(start, stop, _MEAN_ROWS):
        rows = slice(row, min(row + _MEAN_ROWS, stop))
        yield np.stack([np.nan_to_num(column.values[rows], nan=0.0) for column in numeric], axis=1)


def _add_feature(
    coded: Encoding, recipe: Recipe, column: _Column, vocabulary: list[str] | None, mean: float | None
) -> None:
    """Add a table column's columns of X, and drop what it was made of."""
    offset, indicator = len(coded.features), recipe.missing == "indicator"
    if vocabulary is None:
        lost = column.missing
        with np.errstate(over="ignore"):
            values = np.where(lost, mean or 0.0, column.values).astype(recipe.dtype)
        coded.atoms.append(_Atom(offset, values=values))
        coded.features.append(column.name)
        if indicator:
            coded.atoms.append(_Atom(offset + 1, values=lost.astype(recipe.dtype)))
            coded.features.append(f"{column.name} {MISSING}")
        coded.columns.append({"name": column.name, "role": "numeric", "mean": mean})
        return
    if indicator:
        vocabulary = [*(text for text in vocabulary if text != MISSING), MISSING]
    codes = column.recode(vocabulary, len(vocabulary) - 1 if indicator else -1)
    coded.atoms.append(_Atom(offset, codes=codes))
    coded.features += [f"{column.name}={text}" for text in vocabulary]
    coded.columns.append({"name": column.name, "role": "categorical", "vocabulary": vocabulary})


def _add_target(
    coded: Encoding, recipe: Recipe, target: _Column | None, vocabularies: dict[str, list[str]]
) -> None:
    """Make y of the target."""
    if target is None:
        return
    if target.texts is None:
        above = None if recipe.threshold is None else target.values > recipe.threshold
        coded.y = np.asarray(target.values if above is None else above, np.float64)
        return
    vocabulary = vocabularies[target.name]
    if recipe.mapping is not None:
        numbers = {str(text): float(number) for text, number in recipe.mapping.items()}
        coded.y = np.array([numbers[text] for text in vocabulary])[target.recode(vocabulary)]
        return
    if not 2 <= len(vocabulary) <= _CLASSES:
        shown = ", ".join(map(repr, vocabulary)) if len(vocabulary) < 2 else len(vocabulary)
        raise DataError(f"target {target.name!r} must have 2 to {_CLASSES} different texts; it has {shown}")
    coded.classes = vocabulary
    coded.y = target.recode(vocabulary).astype(np.float64)


def _agree_layout(comm: Communicator, coded: Encoding, recipe: Recipe, first: int) -> None:
    """Count entries, and choose dense or CSR by the share that is not zero. Collective, three messages."""
    with agreed(comm):
        for atom in coded.atoms:
            if atom.values is not None and not np.isfinite(atom.values).all():
                name = coded.features[atom.offset]
                raise DataError(f"a value of column {name!r} is too large for {coded.dtype}")
    entries = comm.allgather(sum(_n_entries(atom) for atom in coded.atoms))
    coded.n_entries, coded.starts = sum(entries), (first, sum(entries[: comm.rank]))
    share = coded.n_entries / (coded.n_samples * coded.n_features)
    automatic = "csr" if share < _SPARSE_SHARE else "dense"
    coded.layout = automatic if recipe.layout == "auto" else recipe.layout


def _n_entries(atom: _Atom) -> int:
    if atom.values is not None:
        return int(np.count_nonzero(atom.values))
    return 0 if atom.codes is None else int(np.count_nonzero(atom.codes >= 0))
