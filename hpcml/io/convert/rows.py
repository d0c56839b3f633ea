"""Rows of X on one rank, made when they are written, dense or in CSR form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CSRRows", "ColumnAtom", "ColumnRows", "Encoding", "EntryRows", "RowRun", "Rows", "index_type"]


@dataclass(frozen=True)
class ColumnAtom:
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


class Rows(Protocol):
    """Rows of X on this rank; all Local."""

    def width(self, layout: str) -> int:
        """Return how many numbers are held for a row while it is made in a layout."""

    def dense(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start <= i < stop`` of X."""

    def csr(self, start: int, stop: int) -> CSRRows:
        """Return rows ``start <= i < stop`` of X without their zeros, columns ascending."""


@dataclass(frozen=True)
class ColumnRows:
    """Rows made of the columns of a table."""

    atoms: Sequence[ColumnAtom]
    n_features: int
    dtype: str

    def width(self, layout: str) -> int:
        """Return how many numbers are held for a row while it is made. Local."""
        return self.n_features if layout == "dense" else len(self.atoms)

    def dense(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start <= i < stop`` of X. Local."""
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
        """Return rows ``start <= i < stop`` of X without their zeros, columns ascending. Local."""
        values = np.zeros((stop - start, len(self.atoms)), self.dtype)
        columns = np.zeros(values.shape, index_type(self.n_features))
        for j, atom in enumerate(self.atoms):
            columns[:, j] = atom.offset
            if atom.values is not None:
                values[:, j] = atom.values[start:stop]
            elif atom.codes is not None:
                columns[:, j] += atom.codes[start:stop]
                values[:, j] = atom.codes[start:stop] >= 0
        kept = values != 0
        return CSRRows(values[kept], columns[kept], np.count_nonzero(kept, axis=1))


@dataclass(frozen=True)
class EntryRows:
    """Rows given by their entries; `indptr` starts at 0."""

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[np.int64]
    n_features: int

    def width(self, layout: str) -> int:
        """Return how many numbers are held for a row while it is made. Local."""
        mean = -(-self.data.size // max(self.indptr.size - 1, 1))
        return self.n_features if layout == "dense" else max(mean, 1)

    def dense(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start <= i < stop`` of X. Local."""
        part = self.csr(start, stop)
        X = np.zeros((stop - start, self.n_features), self.data.dtype)
        X[np.repeat(np.arange(stop - start), part.counts), part.indices] = part.data
        return X

    def csr(self, start: int, stop: int) -> CSRRows:
        """Return rows ``start <= i < stop`` of X without their zeros. Local."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        return CSRRows(
            self.data[first:last], self.indices[first:last], np.diff(self.indptr[start : stop + 1])
        )


@dataclass(frozen=True)
class RowRun:
    """Consecutive rows of the file that this rank writes: the first row, the first entry, X and columns."""

    start: int
    entry: int
    n_rows: int
    rows: Rows
    y: NDArray[np.float64] | None
    beside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass
class Encoding:
    """What this rank writes, and what is the same on every rank.

    Parameters
    ----------
    n_read, n_samples, n_features, n_entries : int
        Rows read and kept, columns of X and its entries that are not zero, over all ranks.
    layout : {"dense", "csr"}
    dtype : str
    features : list of str
        A name for each column of X, or none at all.
    columns : list of dict
        Role, vocabulary and filling of each table column, as JSON can say them.
    classes : list of str or None
        The texts that y's codes number.
    runs : list of RowRun
        Of this rank.
    """

    n_read: int
    n_samples: int = 0
    n_features: int = 0
    n_entries: int = 0
    layout: str = "dense"
    dtype: str = "float64"
    features: list[str] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    classes: list[str] | None = None
    labelled: bool = False
    runs: list[RowRun] = field(default_factory=list)


def index_type(n_features: int) -> np.dtype[Any]:
    """Return the type of column numbers. Local."""
    return np.dtype("<i4" if n_features < 2**31 else "<i8")
