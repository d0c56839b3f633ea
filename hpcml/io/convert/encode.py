"""Columns of a table as rows of X and y: missing values, vocabularies, one-hot codes, dense or CSR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, shared
from hpcml.io.convert.columns import Column
from hpcml.io.convert.fill import fillings
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.rows import ColumnAtom, ColumnRows, Encoding, RowRun
from hpcml.io.tables.columns import UnusableValue
from hpcml.io.tables.part import Piece, TablePart

__all__ = ["Known", "choose_layout", "encode_part"]

MISSING = "(missing)"
_SPARSE_SHARE = 0.25
_CLASSES = 4000
"""Texts that a target may have: the vocabulary is an HDF5 attribute, which has 64 KiB."""


@dataclass(frozen=True)
class Known:
    """What rows that stand before say: how many were read, and the texts of the columns that have texts."""

    n_read: int = 0
    vocabularies: Mapping[str, list[str]] = field(default_factory=dict)


def encode_part(comm: Communicator, part: TablePart, recipe: Recipe, known: Known = Known()) -> Encoding:
    """Return this rank's rows encoded with what all ranks agree on.

    Collective, about eight small messages, and those of `fillings`.

    Parameters
    ----------
    comm : Communicator
    part : TablePart
    recipe : Recipe
    known : Known
        Of the sources that stand before those of `part`.

    Raises
    ------
    DataError
        With file, column and data row: a missing value under "error", text in a numeric column, an infinite
        value, a target that the mapping lacks. Or no row is left, or a text is none of the known ones.
    SpecError
        A step of the recipe does not fit the kind of a column.
    """
    features: list[Column] = []
    target: Column | None = None
    beside: list[Column] = []
    keep = np.zeros(0, bool)
    with agreed(comm):
        columns = {name: _load(part, name, recipe) for name in part.used.columns}
        n_rows = sum(piece.columns.n_rows for piece in part.pieces)
        columns, keep = recipe.steps.apply(columns, np.arange(n_rows) + (known.n_read + part.start))
        features = [columns[name] for name in part.used.roles]
        target = None if recipe.target is None else columns[recipe.target]
        beside = [columns[name] for name in recipe.beside]
    with agreed(comm):
        chosen = [*features, *beside, *([] if target is None else [target])]
        _check_finite(part, chosen, keep)
        if recipe.missing == "drop":
            for column in chosen:
                keep = keep & ~column.missing
        else:
            needed = [*(features if recipe.missing == "error" else []), *beside]
            _check_missing(part, needed, target, keep)
        if target is not None and recipe.mapping is not None:
            _check_mapping(part, target, recipe.mapping, keep)
    if not keep.all():
        for column in chosen:
            column.values = column.values[keep]
    coded = _agree(comm, part, recipe, features, target, known)
    columns_beside = {column.name: column.values for column in beside}
    coded.runs = [replace(run, beside=columns_beside) for run in coded.runs]
    return coded


def _is_numeric(part: TablePart, name: str, recipe: Recipe) -> bool:
    cast = recipe.steps.cast.get(name)
    if name == recipe.target and name not in part.used.roles and cast is None:
        return _target_is_numeric(part, recipe)
    role = part.used.roles.get(name)
    if name in recipe.beside:
        return True
    if role or cast:
        return role == "numeric" or (not role and cast != "category")
    return part.kinds[name] in ("number", "bool") or name in recipe.steps.of_numbers


def _target_is_numeric(part: TablePart, recipe: Recipe) -> bool:
    if recipe.mapping is not None:
        return False
    if recipe.threshold is not None or recipe.target in recipe.steps.of_numbers:
        return True
    return part.kinds[str(recipe.target)] != "text"


def _load(part: TablePart, name: str, recipe: Recipe) -> Column:
    """Return this rank's values of a column."""
    numeric = _is_numeric(part, name, recipe)
    values: list[NDArray[Any]] = []
    texts: dict[str, int] = {}
    for piece in part.pieces:
        try:
            if numeric:
                values.append(piece.columns.numbers(name, part.kinds[name]))
                continue
            codes, local = piece.columns.texts(name)
        except UnusableValue as error:
            cure = "; fill and clip take its values as numbers" if name in recipe.steps.of_numbers else ""
            raise _located(piece, name, error.row, f"{error}{cure}") from None
        places = [texts.setdefault(text, len(texts)) for text in local]
        values.append(np.array([*places, -1], np.int32)[codes])
    joined = np.concatenate(values) if values else np.zeros(0, np.float64 if numeric else np.int32)
    return Column(name, joined, None if numeric else list(texts))


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


def _check_finite(part: TablePart, columns: Sequence[Column], keep: NDArray[np.bool_]) -> None:
    first = _first([(c.name, np.isinf(c.values) & keep) for c in columns if c.texts is None])
    if first:
        _raise_at(part, first[1], first[0], "the number is infinite")


def _check_missing(
    part: TablePart, features: Sequence[Column], target: Column | None, keep: NDArray[np.bool_]
) -> None:
    first = _first([(column.name, column.missing & keep) for column in features])
    lost = None if target is None else _first([(target.name, target.missing & keep)])
    if first and (lost is None or first[0] <= lost[0]):
        _raise_at(part, first[1], first[0], "the value is missing (data.missing says what to do then)")
    if lost:
        _raise_at(part, lost[1], lost[0], "the target is missing (data.missing: drop leaves such rows out)")


def _check_mapping(part: TablePart, target: Column, mapping: Any, keep: NDArray[np.bool_]) -> None:
    known = {str(text) for text in mapping}
    unknown = [text not in known for text in target.texts or []]
    bad = np.array([*unknown, False])[target.values] & keep
    first = _first([(target.name, bad)])
    if first:
        text = (target.texts or [])[target.values[first[0]]]
        _raise_at(part, first[1], first[0], f"{text!r} is none of the mapping's {sorted(known)}")


def _agree(
    comm: Communicator,
    part: TablePart,
    recipe: Recipe,
    features: list[Column],
    target: Column | None,
    known: Known,
) -> Encoding:
    """Agree on vocabularies, fillings and layout. Collective."""
    columns = [*features, *([] if target is None else [target])]
    n_local = int(columns[0].values.size)
    texts = {column.name: column.used_texts() for column in columns if column.texts is not None}
    said = comm.allgather([n_local, texts])
    vocabularies = {name: sorted({text for _, each in said for text in each[name]}) for name in texts}
    _refuse_new(vocabularies, known)
    vocabularies.update({name: known.vocabularies[name] for name in set(known.vocabularies) & set(texts)})
    coded = Encoding(part.n_samples, sum(n for n, _ in said), dtype=recipe.dtype)
    first = sum(n for n, _ in said[: comm.rank])
    if coded.n_samples == 0 and known.n_read == 0:
        why = (
            "every row lacks a value or is filtered out: none is left"
            if part.n_samples
            else "the table has no rows"
        )
        raise shared(DataError(why))
    fills = fillings(comm, recipe.missing, features, first, coded.n_samples)
    atoms: list[ColumnAtom] = []
    for column in features:
        atoms += _add_feature(coded, recipe, column, vocabularies.get(column.name), fills.get(column.name))
    coded.n_features = len(coded.features)
    if coded.n_features == 0:
        raise shared(DataError("no feature has a value"))
    y = None if target is None else _add_target(coded, recipe, target, vocabularies)
    _check_range(comm, coded, atoms)
    entry = choose_layout(comm, coded, recipe, sum(_n_entries(atom) for atom in atoms))
    rows = ColumnRows(atoms, coded.n_features, coded.dtype)
    coded.runs = [RowRun(first, entry, n_local, rows, y)]
    return coded


def _refuse_new(found: Mapping[str, list[str]], known: Known) -> None:
    """Raise a DataError for texts that the rows before do not have."""
    for name, texts in found.items():
        new = sorted(set(texts) - set(known.vocabularies.get(name, texts)))
        if new:
            shown = ", ".join(map(repr, new[:5])) + (", ..." if len(new) > 5 else "")
            raise shared(DataError(f"column {name!r} has new categories: {shown}; convert all sources anew"))


def _add_feature(
    coded: Encoding, recipe: Recipe, column: Column, vocabulary: list[str] | None, fill: float | str | None
) -> list[ColumnAtom]:
    """Add the columns of X that a table column makes, and return their values."""
    if vocabulary is None:
        return _add_number(coded, recipe, column, fill)
    if recipe.missing == "indicator":
        vocabulary = [*(text for text in vocabulary if text != MISSING), MISSING]
        fill = MISSING
    offset = len(coded.features)
    codes = column.recode(vocabulary, -1 if fill is None else vocabulary.index(str(fill)))
    coded.features += [f"{column.name}={text}" for text in vocabulary]
    coded.columns.append({"name": column.name, "role": "categorical", "vocabulary": vocabulary})
    return [ColumnAtom(offset, codes=codes)]


def _add_number(
    coded: Encoding, recipe: Recipe, column: Column, fill: float | str | None
) -> list[ColumnAtom]:
    offset, lost = len(coded.features), column.missing
    values = np.where(lost, float(fill or 0.0), column.values) if lost.any() else column.values
    with np.errstate(over="ignore"):
        atoms = [ColumnAtom(offset, values=values.astype(recipe.dtype, copy=False))]
    coded.features.append(column.name)
    if recipe.missing == "indicator":
        atoms.append(ColumnAtom(offset + 1, values=lost.astype(recipe.dtype)))
        coded.features.append(f"{column.name} {MISSING}")
    coded.columns.append({"name": column.name, "role": "numeric", "fill": fill})
    return atoms


def _add_target(
    coded: Encoding, recipe: Recipe, target: Column, vocabularies: dict[str, list[str]]
) -> NDArray[np.float64]:
    """Return y, and note the classes that it numbers."""
    coded.labelled = True
    if target.texts is None:
        above = None if recipe.threshold is None else target.values > recipe.threshold
        return np.asarray(target.values if above is None else above, np.float64)
    vocabulary = vocabularies[target.name]
    if recipe.mapping is not None:
        numbers = {str(text): float(number) for text, number in recipe.mapping.items()}
        return np.array([numbers[text] for text in vocabulary], np.float64)[target.recode(vocabulary)]
    if not 2 <= len(vocabulary) <= _CLASSES:
        shown = ", ".join(map(repr, vocabulary)) if len(vocabulary) < 2 else len(vocabulary)
        raise shared(
            DataError(f"target {target.name!r} must have 2 to {_CLASSES} different texts; it has {shown}")
        )
    coded.classes = vocabulary
    return target.recode(vocabulary).astype(np.float64)


def _check_range(comm: Communicator, coded: Encoding, atoms: Sequence[ColumnAtom]) -> None:
    with agreed(comm):
        for atom in atoms:
            if atom.values is not None and not np.isfinite(atom.values).all():
                name = coded.features[atom.offset]
                raise DataError(f"a value of column {name!r} is too large for {coded.dtype}")


def choose_layout(comm: Communicator, coded: Encoding, recipe: Recipe, n_local: int) -> int:
    """Choose dense or CSR by the share of X that is not zero. Collective, one message.

    Parameters
    ----------
    comm : Communicator
    coded : Encoding
        Its shape is known; entries and layout are noted in it.
    recipe : Recipe
    n_local : int
        Entries of this rank that are not zero.

    Returns
    -------
    int
        The first entry of this rank.
    """
    entries = comm.allgather(n_local)
    coded.n_entries = sum(entries)
    share = coded.n_entries / max(coded.n_samples * coded.n_features, 1)
    automatic = "csr" if share < _SPARSE_SHARE else "dense"
    coded.layout = automatic if recipe.layout == "auto" else recipe.layout
    return sum(entries[: comm.rank])


def _n_entries(atom: ColumnAtom) -> int:
    if atom.values is not None:
        return int(np.count_nonzero(atom.values))
    return 0 if atom.codes is None else int(np.count_nonzero(atom.codes >= 0))
