"""Rows of files that were copied to scratch, spoken of as rows of the files that the user named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcml.errors import DataError
from hpcml.io.read.layout import TableLayout
from hpcml.io.read.rows import Buffers, Rows
from hpcml.io.read.table import HDF5Table

__all__ = ["CopiedRows"]


class CopiedRows:
    """Rows of copies, compared with the indexes of their sources. A RowReader; all Local.

    A copy has the very bytes of its source, so what is wrong with its rows is wrong with those of the source,
    which is named; the copy is gone when the user looks.

    Parameters
    ----------
    copies : HDF5Table
        Not read yet; closed with these rows.
    sources : TableLayout
        Of the files that were copied, in the same order.
    """

    def __init__(self, copies: HDF5Table, sources: TableLayout) -> None:
        self._copies = copies
        copies.compare_with(sources.indexes)
        self.verification = copies.verification
        self.n_samples, self.n_features = copies.n_samples, copies.n_features
        self.dtype, self.is_sparse = copies.dtype, copies.is_sparse
        self.source, self.unit_bytes = copies.source, copies.unit_bytes
        self._pairs = [
            (copy.path, source.path) for copy, source in zip(copies.layout.files, sources.files, strict=True)
        ]

    def read(self, start: int, stop: int, buffers: Buffers | None = None) -> Rows:
        """See RowReader.

        Raises
        ------
        DataError
            As `HDF5Table.read`, of the source.
        """
        try:
            return self._copies.read(start, stop, buffers)
        except DataError as error:
            raise DataError(_of_source(str(error), self._pairs)) from None

    def check(self) -> None:
        """See RowReader."""
        self._copies.check()

    def close(self) -> None:
        """Close the copies; arrays that were returned stay."""
        self._copies.close()


def _of_source(sentence: str, pairs: Sequence[tuple[Path, Path]]) -> str:
    """Return a sentence on a copy as one on its source."""
    for copy, source in pairs:
        if sentence.startswith(f"{copy}: "):
            return f"{source}: {sentence.removeprefix(f'{copy}: ')} (read from its copy {copy})"
    return sentence
