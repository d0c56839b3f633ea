"""Add the rows of more tables to a conversion: old rows and new ones go to a file that takes its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.convert.conversion import ConvertReport
from hpcml.io.convert.encode import Known, encode_part
from hpcml.io.convert.fill import FILLED
from hpcml.io.convert.notes import FORMAT, attributes_of, stored_attributes, summary_of
from hpcml.io.convert.recipe import Identity, Recipe, source_identity
from hpcml.io.convert.rows import CSRRows, Encoding, RowRun
from hpcml.io.convert.sparse import read_sparse
from hpcml.io.convert.write import write_table
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import HDF5Table, open_table
from hpcml.io.tables.read import read_part, table_formats
from hpcml.io.write.turns import one_writer

__all__ = ["append"]


@dataclass(frozen=True)
class _Old:
    """What the file says of itself."""

    recipe: Recipe
    sources: Identity
    summary: dict[str, Any]
    columns: list[dict[str, Any]]
    digest: str

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """The texts of the columns that have texts, the target's among them."""
        found = {one["name"]: one["vocabulary"] for one in self.columns if "vocabulary" in one}
        classes = self.summary["classes"]
        return {**found, **({} if classes is None else {str(self.recipe.target): classes})}


def append(
    comm: Communicator, sources: Sequence[Path | str], destination: Path, say: Callable[[str], None]
) -> ConvertReport:
    """Add the rows of tables to a conversion, by its own recipe.

    Collective, about fifty small messages. The result has the content of a conversion of all sources at
    once, in the layout that the file has. The file is complete with the new rows or as it was.

    Parameters
    ----------
    comm : Communicator
    sources : sequence of Path
        Tables with the columns of those before.
    destination : Path
    say : callable
        Takes a line of progress, on rank 0.

    Returns
    -------
    ConvertReport
        `converted` is False where the file has all these sources already.

    Raises
    ------
    DataError
        The file is no conversion, or its recipe fills with a mean, a median or a most frequent value, or has
        columns beside X; some of the sources are in it; they have other columns or new categories.
    OutputError
        For want of space, quota or permission.
    """
    tell = say if comm.rank == 0 else (lambda line: None)
    destination = Path(destination)
    with one_writer(comm, destination, tell):
        identity = source_identity(comm, sources)
        old = _old(comm, destination)
        known = {source["sha256"] for source in old.sources}
        present = [source["name"] for source in identity if source["sha256"] in known]
        if len(present) == len(identity):
            tell(f"{destination} has these sources already")
            return ConvertReport(destination, False, digest=old.digest, **old.summary)
        with agreed(comm):
            if present:
                raise DataError(f"{destination} has {present[0]} already: leave it out")
        new = _encoded(comm, [Path(path) for path in sources], identity, old)
        return _written(comm, destination, old, new, identity)


def _old(comm: Communicator, path: Path) -> _Old:
    """Return what the file says of itself, to be added to. Collective, two messages."""
    said: dict[str, Any] = {}
    with agreed(comm):
        if comm.rank == 0:
            notes = stored_attributes(path)
            if not path.exists():
                raise DataError(f"{path}: there is no such file; leave --append out to make it")
            if notes.get("hpcml_format") != FORMAT or "hpcml_sources" not in notes:
                raise DataError(f"{path} is no conversion of tables that rows can be added to")
            said = {name: json.loads(notes[f"hpcml_{name}"]) for name in ("sources", "summary", "columns")}
            said |= {"recipe": json.loads(notes["hpcml_recipe"]), "digest": notes["hpcml_digest"].decode()}
            if (how := said["recipe"]["missing"]) in FILLED:
                raise DataError(f"{path}: missing: {how} depends on all rows: convert all sources anew")
            if beside := said["recipe"].get("beside"):
                raise DataError(f"{path}: {beside[0]!r} stands beside X: convert all sources anew")
    said = comm.bcast(said)
    return _Old(**{**said, "recipe": Recipe.described(said["recipe"])})


def _encoded(comm: Communicator, files: list[Path], identity: Identity, old: _Old) -> Encoding:
    """Read the new sources by the old recipe. Collective."""
    sizes = [int(source["size"]) for source in identity]
    formats = table_formats(comm, files, old.recipe.format)
    is_sparse = [one.get("role") == "libsvm" for one in old.columns] == [True]
    with agreed(comm):
        if is_sparse != ("libsvm" in formats):
            raise DataError(f"{files[0]}: libsvm files and tables cannot be joined")
    if is_sparse:
        bound = replace(
            old.recipe,
            index_base=old.columns[0]["index_base"],
            n_features=old.summary["n_features"],
            layout=old.summary["layout"],
        )
        return read_sparse(comm, files, sizes, bound, old.summary["n_read"])
    part = read_part(comm, files, sizes, formats, _bound(old))
    with agreed(comm):
        _check_columns(
            files[0], list(old.recipe.roles(part.used.names)), [one["name"] for one in old.columns]
        )
    return encode_part(comm, part, _bound(old), Known(old.summary["n_read"], old.vocabularies))


def _bound(old: _Old) -> Recipe:
    """Return the recipe with what the old rows decided: roles and kinds of columns, the layout."""
    roles: Mapping[str, str] = {one["name"]: one["role"] for one in old.columns}
    cast, target = dict(old.recipe.steps.cast), old.recipe.target
    if target is not None and target not in old.recipe.steps.derive and old.recipe.mapping is None:
        cast.setdefault(target, "number" if old.summary["classes"] is None else "category")
    return replace(
        old.recipe,
        numeric=tuple(name for name, role in roles.items() if role == "numeric"),
        categorical=tuple(name for name, role in roles.items() if role == "categorical"),
        layout=old.summary["layout"],
        steps=replace(old.recipe.steps, cast=cast),
    )


def _check_columns(path: Path, found: list[str], wanted: list[str]) -> None:
    other = sorted(set(found) ^ set(wanted))
    if other:
        raise DataError(f"{path} and the rows before differ in their columns: {', '.join(other)}")


@dataclass(frozen=True)
class _StoredRows:
    """Rows of the old file."""

    table: HDF5Table
    first: int

    def width(self, layout: str) -> int:
        """Return how many numbers are held for a row while it is read. Local."""
        return max(int(self.table.source.row_bytes // 8), 1)

    def dense(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start <= i < stop`` of X. Local."""
        return np.asarray(self._read(start, stop))

    def csr(self, start: int, stop: int) -> CSRRows:
        """Return rows ``start <= i < stop`` of X without their zeros. Local."""
        X = self._read(start, stop)
        return CSRRows(X.data, X.indices, np.diff(X.indptr).astype(np.int64))

    def _read(self, start: int, stop: int) -> Any:
        X = self.table.read(self.first + start, self.first + stop).X
        # Here, and not at the end: the new file then stands in the place of this one.
        self.table.check()
        return X


def _written(comm: Communicator, path: Path, old: _Old, new: Encoding, identity: Identity) -> ConvertReport:
    """Write old and new rows. Collective."""
    names = Columns(old.recipe.x, old.recipe.y if new.labelled else None)
    with open_table(comm, [path], names, old.recipe.dtype) as table:
        n_old = table.n_samples
        first, last = (n_old * r // comm.size for r in (comm.rank, comm.rank + 1))
        with agreed(comm):
            n_entries = _entries(table, first, last) if new.layout == "csr" else 0
            y = table.read(first, last).y if new.labelled and first < last else None
        entries = comm.allgather(n_entries)
        kept = RowRun(first, sum(entries[: comm.rank]), last - first, _StoredRows(table, first), y)
        shifted = [replace(run, start=run.start + n_old, entry=run.entry + sum(entries)) for run in new.runs]
        density = old.summary["density"] * n_old * new.n_features
        whole = replace(
            new,
            n_read=old.summary["n_read"] + new.n_read,
            n_samples=n_old + new.n_samples,
            n_entries=round(density) + new.n_entries,
            runs=[kept, *shifted],
        )
        summary = summary_of(whole)
        notes = attributes_of(whole, old.recipe, [*old.sources, *identity], summary)
        digest = write_table(comm, path, whole, old.recipe, notes)
    return ConvertReport(path, True, digest=digest, **summary)


def _entries(table: HDF5Table, first: int, last: int) -> int:
    """Return how many entries local rows have, a run of rows at a time."""
    step = max(int((8 << 20) // max(table.source.row_bytes, 1)), 1)
    runs = ((row, min(row + step, last)) for row in range(first, last, step))
    return sum(int(getattr(table.read(*run).X, "nnz", 0)) for run in runs)
