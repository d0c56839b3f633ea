"""A rank's part of a table: pieces of files, numbered over all ranks, with the kinds that all agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.convert.recipe import Recipe
from hpcml.io.tables.columns import Columns, UnusableValue, common_kind, pyarrow
from hpcml.io.tables.text import reading

__all__ = ["BadRow", "Piece", "TablePart", "Used", "make_part", "parsing", "used_columns"]


@dataclass(frozen=True)
class Piece:
    """Rows of one file on one rank; `start` counts the rows of all files from 0."""

    path: Path
    start: int
    columns: Columns


@dataclass(frozen=True)
class Used:
    """Columns of X with their role, or None, the columns of the table that must be read for them, and all."""

    roles: dict[str, str | None]
    columns: list[str]
    names: list[str]


@dataclass(frozen=True)
class TablePart:
    """Rows of this rank; `n_samples` rows are on all, `start` below; the kind of each column that is read."""

    pieces: list[Piece]
    start: int
    n_samples: int
    used: Used
    kinds: dict[str, str]


class BadRow(Exception):
    """A row that cannot be read, after `rows` good rows of this rank."""

    def __init__(self, path: Path, rows: int, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.rows = rows


def used_columns(recipe: Recipe, names: Sequence[str]) -> Used:
    """Return what the recipe uses of a table with the columns `names`. Local.

    Raises
    ------
    DataError, SpecError
        A column is not there.
    """
    roles = recipe.roles(names)
    target = [] if recipe.target is None else [recipe.target]
    wanted = {*roles, *recipe.steps.inputs(names), *recipe.beside, *target}
    return Used(roles, [name for name in names if name in wanted], list(names))


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what Arrow says of bad input into a DataError. Local."""
    pa = pyarrow()
    try:
        with reading(path):
            yield
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "; text must be UTF-8" if "UTF8" in problem or isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path}: {problem[:200]}{hint}") from error


def make_part(
    comm: Communicator,
    pieces: list[tuple[Path, Columns]],
    bad: BadRow | None,
    used: Used,
) -> TablePart:
    """Give rows their numbers, and columns the kind that all pieces agree on. Collective, three messages.

    Raises
    ------
    DataError
        A rank has a bad row, or a column of a type that is neither numbers nor text.
    """
    n_rows = bad.rows if bad else sum(columns.n_rows for _, columns in pieces)
    kinds: dict[str, str] = {}
    with agreed(comm):
        if not bad:
            asked = [name for name in used.columns if used.roles.get(name) != "categorical"]
            kinds = {name: _kind_of(pieces, name) for name in asked}
    said = comm.allgather([n_rows, kinds])
    start = sum(part[0] for part in said[: comm.rank])
    with agreed(comm):
        if bad:
            raise DataError(f"{bad.path}: data row {start + bad.rows} (the first is 0) has {bad}")
    numbered, first = [], start
    for path, columns in pieces:
        numbered.append(Piece(path, start, columns))
        start += columns.n_rows
    whole = {name: common_kind([part[1][name] for part in said]) for name in kinds}
    return TablePart(numbered, first, sum(part[0] for part in said), used, whole)


def _kind_of(pieces: list[tuple[Path, Columns]], name: str) -> str:
    kinds = []
    for path, columns in pieces:
        try:
            kinds.append(columns.kind(name))
        except UnusableValue as error:
            raise DataError(f"{path}: column {name!r}: {error}") from None
    return common_kind(kinds)
