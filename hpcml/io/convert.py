"""Convert tables to HDF5 in parallel: the order of events, the lock, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py

from hpcml.collectives import Communicator, SerialCommunicator, agreed
from hpcml.errors import OutputError
from hpcml.io.convert_encode import Encoding, encode_part
from hpcml.io.convert_write import write_table
from hpcml.io.lock import HELD, release, try_lock
from hpcml.io.recipe import Identity, Recipe, resolve_source, source_identity
from hpcml.io.tables import read_part

__all__ = ["ConvertReport", "Recipe", "convert", "is_current", "resolve_source"]

FORMAT = 1
_POLL_SECONDS = 0.2


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

    Collective, 31 calls of the communicator whatever the size (about fifty small messages), and five a
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
    with _only_one(comm, destination, tell):
        clock = [time.perf_counter()]
        identity = source_identity(comm, sources)
        found: dict[str, Any] | None = None
        with agreed(comm):
            if comm.rank == 0:
                _refuse_foreign(destination)
                found = _summary(destination, recipe, identity)
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
    clock.append(time.perf_counter())
    sizes = [int(source["size"]) for source in identity]
    tell(f"converting {sum(sizes) / 1e6:.1f} MB in {len(files)} file(s) on {comm.size} rank(s)")
    part = read_part(comm, files, sizes, recipe)
    clock.append(time.perf_counter())
    coded = encode_part(comm, part, recipe)
    clock.append(time.perf_counter())
    tell(f"{coded.n_samples} of {coded.n_read} rows, {coded.n_features} features, {coded.layout}")
    summary = _summary_of(coded)
    digest = write_table(comm, destination, coded, recipe, _attributes(coded, recipe, identity, summary))
    clock.append(time.perf_counter())
    phases = [after - before for before, after in pairwise(clock)]
    seconds = dict(zip(("identify", "read", "encode", "write"), comm.bcast(phases), strict=True))
    tell(f"wrote {destination} in {sum(seconds.values()):.2f} s")
    return ConvertReport(path=destination, converted=True, digest=digest, seconds=seconds, **summary)


def _summary_of(coded: Encoding) -> dict[str, Any]:
    return {
        "n_read": coded.n_read,
        "n_samples": coded.n_samples,
        "n_features": coded.n_features,
        "layout": coded.layout,
        "density": coded.n_entries / (coded.n_samples * coded.n_features),
        "classes": coded.classes,
    }


def _attributes(
    coded: Encoding, recipe: Recipe, identity: Identity, summary: dict[str, Any]
) -> dict[str, Any]:
    """Return the attributes of the root group."""
    attributes: dict[str, Any] = {
        "hpcml_format": FORMAT,
        "hpcml_recipe": json.dumps(recipe.describe(), sort_keys=True),
        "hpcml_sources": json.dumps(identity),
        "hpcml_summary": json.dumps(summary),
        "hpcml_columns": json.dumps(coded.columns),
    }
    if coded.classes is not None:
        attributes["classes"] = coded.classes
    return attributes


def is_current(path: Path, recipe: Recipe, sources: Sequence[Path | str]) -> bool:
    """Return whether `path` is the conversion of these sources by this recipe. Local; reads the sources.

    Raises
    ------
    DataError
        A source cannot be read.
    """
    if not Path(path).is_file():
        return False
    return _summary(Path(path), recipe, source_identity(SerialCommunicator(), sources)) is not None


def _summary(path: Path, recipe: Recipe, identity: Identity) -> dict[str, Any] | None:
    """Return what the report says of a conversion of this recipe and these sources, or None."""
    stored = _stored(path)
    same = (
        stored.get("hpcml_format") == FORMAT
        and json.loads(stored.get("hpcml_recipe", "null")) == recipe.describe()
        and json.loads(stored.get("hpcml_sources", "null")) == identity
    )
    if not same:
        return None
    summary: dict[str, Any] = json.loads(stored["hpcml_summary"])
    return {**summary, "digest": stored["hpcml_digest"].decode()}


def _stored(path: Path) -> dict[str, Any]:
    """Return a file's root attributes, none of what is not an HDF5 file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return {name: value for name, value in file.attrs.items() if name.startswith("hpcml_")}
    except OSError:
        return {}


def _refuse_foreign(path: Path) -> None:
    """Raise an OutputError where something other than a conversion would be replaced."""
    if path.exists() and "hpcml_recipe" not in _stored(path):
        raise OutputError(f"{path} is there and is not a conversion of tables: move it, or name another path")


@contextmanager
def _only_one(comm: Communicator, destination: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock ``destination.lock`` on rank 0. Collective, a few messages, and more while waiting.

    The lock is the kernel's: it ends with its holder, so what a dead process left does not block. Where the
    file system has no locks two conversions may work at once; both then write the same file, aside.
    """
    handle = HELD
    told = False
    try:
        while True:
            with agreed(comm):
                if comm.rank == 0:
                    handle = try_lock(_lock_path(destination))
            # Polled, not waited for inside a collective: the watchdog would name rank 0 as stuck.
            if comm.bcast(handle != HELD):
                break
            if not told:
                tell(f"waiting for another conversion to {destination}")
                told = True
            time.sleep(_POLL_SECONDS)
        if handle >= 0:
            _remove_leftovers(destination)
        yield
    finally:
        release(handle, _lock_path(destination))


def _lock_path(destination: Path) -> Path:
    return destination.with_name(destination.name + ".lock")


def _remove_leftovers(destination: Path) -> None:
    """Remove what a conversion that was killed left aside."""
    for aside in destination.parent.glob(f".{destination.name}.*.part"):
        with suppress(OSError):
            aside.unlink()
