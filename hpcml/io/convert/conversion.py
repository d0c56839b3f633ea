"""Convert tables to HDF5 in parallel: the order of events, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcml.collectives import Communicator, SerialCommunicator, agreed
from hpcml.io.convert.notes import attributes_of, current_summary, refuse_foreign, summary_of
from hpcml.io.convert.recipe import Identity, Recipe, resolve_source, source_identity
from hpcml.io.write.turns import one_writer

if TYPE_CHECKING:
    from hpcml.io.convert.rows import Encoding

__all__ = ["ConvertReport", "Recipe", "convert", "is_current", "resolve_source"]


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion made; the same on every rank.

    Parameters
    ----------
    path : Path
    converted : bool
        False where the file was already there, of the same recipe and sources.
    n_read, n_samples, n_features : int
        Rows in the sources, rows kept, columns of X.
    layout : {"dense", "csr"}
    density : float
        Share of X that is not zero.
    digest : str
        SHA-256 of the content: the same for any number of ranks.
    classes : list of str or None
        The texts that y's codes number.
    seconds : dict
        Of each phase, on rank 0.
    """

    path: Path
    converted: bool
    n_read: int
    n_samples: int
    n_features: int
    layout: str
    density: float
    digest: str
    classes: list[str] | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def convert(
    comm: Communicator,
    sources: Sequence[Path | str],
    destination: Path,
    recipe: Recipe,
    say: Callable[[str], None],
) -> ConvertReport:
    """Convert tables to one HDF5 file, unless it is already there.

    Collective, 37 calls of the communicator whatever the size (about fifty small messages), and five a
    second while another conversion to the same file is waited for. The data sets are the same for any number
    of ranks: rows in the order of the files. The file is complete or absent; after an error nothing is left.

    Parameters
    ----------
    comm : Communicator
    sources : sequence of Path
        Tables with the same columns, see `resolve_source`.
    destination : Path
        Its directory is made; an older conversion there is replaced, any other file is not.
    recipe : Recipe
    say : callable
        Takes a line of progress, on rank 0.

    Returns
    -------
    ConvertReport

    Raises
    ------
    DataError
        The sources cannot be converted as asked.
    OutputError
        For want of space, quota or permission, or a file that is no conversion stands at `destination`.
    """
    tell = say if comm.rank == 0 else _silent
    destination = Path(destination)
    with one_writer(comm, destination, tell):
        clock = [time.perf_counter()]
        identity = source_identity(comm, sources)
        found: dict[str, Any] | None = None
        with agreed(comm):
            if comm.rank == 0:
                refuse_foreign(destination)
                found = current_summary(destination, recipe, identity)
        found = comm.bcast(found)
        if found is not None:
            tell(f"{destination} is up to date")
            return ConvertReport(path=destination, converted=False, **found)
        return _converted(comm, [Path(path) for path in sources], destination, recipe, identity, tell, clock)


def _silent(line: str) -> None:
    """Say nothing."""


def _converted(
    comm: Communicator,
    files: list[Path],
    destination: Path,
    recipe: Recipe,
    identity: Identity,
    tell: Callable[[str], None],
    clock: list[float],
) -> ConvertReport:
    """Read, encode and write. Collective."""
    # Imported here: a rank of a job whose data are there never needs it.
    from hpcml.io.convert.write import write_table

    clock.append(time.perf_counter())
    sizes = [int(source["size"]) for source in identity]
    tell(f"converting {sum(sizes) / 1e6:.1f} MB in {len(files)} file(s) on {comm.size} rank(s)")
    coded = _encoded(comm, files, sizes, recipe, clock)
    tell(f"{coded.n_samples} of {coded.n_read} rows, {coded.n_features} features, {coded.layout}")
    summary = summary_of(coded)
    digest = write_table(comm, destination, coded, recipe, attributes_of(coded, recipe, identity, summary))
    clock.append(time.perf_counter())
    phases = [after - before for before, after in pairwise(clock)]
    seconds = dict(zip(("identify", "read", "encode", "write"), comm.bcast(phases), strict=True))
    tell(f"wrote {destination} in {sum(seconds.values()):.2f} s")
    return ConvertReport(path=destination, converted=True, digest=digest, seconds=seconds, **summary)


def _encoded(
    comm: Communicator, files: list[Path], sizes: list[int], recipe: Recipe, clock: list[float]
) -> Encoding:
    """Read and encode. Collective."""
    from hpcml.io.convert.encode import encode_part
    from hpcml.io.convert.sparse import read_sparse
    from hpcml.io.tables.read import read_part, table_formats

    formats = table_formats(comm, files, recipe.format)
    if "libsvm" in formats:
        coded = read_sparse(comm, files, sizes, recipe)
        clock += [time.perf_counter()] * 2
        return coded
    part = read_part(comm, files, sizes, formats, recipe)
    clock.append(time.perf_counter())
    coded = encode_part(comm, part, recipe)
    clock.append(time.perf_counter())
    return coded


def is_current(path: Path, recipe: Recipe, sources: Sequence[Path | str]) -> bool:
    """Return whether `path` is the conversion of these sources by this recipe. Local; reads the sources.

    Raises
    ------
    DataError
        A source cannot be read.
    """
    if not Path(path).is_file():
        return False
    return current_summary(Path(path), recipe, source_identity(SerialCommunicator(), sources)) is not None
