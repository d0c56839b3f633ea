"""What a conversion makes of which tables: the recipe, and the sources and their identity."""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError, SpecError
from hpcml.io.convert.expression import near
from hpcml.io.convert.steps import Steps
from hpcml.io.files import file_digest

__all__ = ["CHOICES", "Identity", "Recipe", "resolve_source", "source_identity"]

Identity: TypeAlias = list[dict[str, Any]]
"""Name, size and SHA-256 of each source: what survives another download of the same bytes."""

CHOICES = {
    "missing": ("error", "mean", "median", "most_frequent", "drop", "indicator"),
    "layout": ("auto", "dense", "csr"),
    "dtype": ("float64", "float32"),
    "format": ("auto", "csv", "jsonl", "libsvm", "npy", "parquet"),
    "index_base": ("auto", "0", "1"),
}
"""What a recipe's words may be; the first is the default."""

_LATER: dict[str, Any] = {"index_base": "auto", "n_features": None, "steps": {}, "beside": []}
"""Keys that are told of only where they are not as here: an older file's recipe has none of them."""


_LISTS = ("numeric", "categorical", "include", "exclude", "beside")


@dataclass(frozen=True)
class Recipe:
    """How the columns of a table become X and y.

    Parameters
    ----------
    numeric, categorical : tuple of str
        Columns taken as numbers, and one-hot encoded. Without any, each column's role is inferred; with
        one, only listed columns are features.
    include, exclude : tuple of str
        Columns that may be features (all of them by default), and columns that may not. The target never is.
    target : str, optional
        The column that becomes y.
    threshold : float, optional
        y = 1 where the target is larger, else 0.
    mapping : mapping of str to float, optional
        y for each text of the target.
    missing : {"error", "mean", "median", "most_frequent", "drop", "indicator"}
        What a missing value does: end the conversion, become the column's mean or median (an all-zero
        one-hot), become its most frequent value (the smallest of several), drop its row, or become 0 beside
        a column "name (missing)" (a category "(missing)").
    layout : {"auto", "dense", "csr"}
        auto: CSR where less than a quarter of X is not zero.
    dtype : {"float64", "float32"}
        Of X; y is float64.
    format : {"auto", "csv", "jsonl", "libsvm", "npy", "parquet"}
        auto: by the suffix of each file.
    index_base : {"auto", "0", "1"}
        Number of the first column in libsvm files; auto: 0 where an index 0 occurs, else 1.
    n_features : int, optional
        Columns of X made of libsvm files; by default up to the last one that occurs.
    steps : Steps
        What is done to the table first.
    x, y : str
        Names of the HDF5 data sets.
    beside : tuple of str
        Columns of numbers that become data sets of their own names and no features: weights, say.

    Raises
    ------
    SpecError
        Values that are not among the allowed ones, or that exclude each other.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    target: str | None = None
    threshold: float | None = None
    mapping: Mapping[str, float] | None = None
    missing: str = "error"
    layout: str = "auto"
    dtype: str = "float64"
    format: str = "auto"
    index_base: str = "auto"
    n_features: int | None = None
    steps: Steps = field(default_factory=Steps)
    x: str = "X"
    y: str = "y"
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise SpecError(f"column {both[0]!r} is listed as numeric and as categorical")
        taken = sorted({self.x, self.y, "feature_names"} & set(self.beside))
        if taken:
            raise SpecError(
                f"column {taken[0]!r} stands beside X, and a data set of another role has its name"
            )
        if self.threshold is not None and self.mapping is not None:
            raise SpecError("a target has a threshold or a mapping, not both")
        if self.target is None and (self.threshold is not None or self.mapping is not None):
            raise SpecError("a threshold or a mapping needs a target")
        numbers = [*(self.mapping or {}).values(), *([] if self.threshold is None else [self.threshold])]
        if not all(math.isfinite(number) for number in numbers):
            raise SpecError("a threshold and the values of a mapping must be finite numbers")

    def describe(self) -> dict[str, Any]:
        """Return the recipe as JSON can say it; equal recipes give equal texts. Local."""
        pairs = {str(text): float(number) for text, number in (self.mapping or {}).items()}
        mapping = None if self.mapping is None else pairs
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        threshold = None if self.threshold is None else float(self.threshold)
        plain = {name: getattr(self, name) for name in ("target", *CHOICES, "n_features", "x", "y")}
        whole = {**lists, **plain, "threshold": threshold, "mapping": mapping, "steps": self.steps.describe()}
        return {name: value for name, value in whole.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def described(cls, said: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `describe` told of. Local."""
        lists = {name: tuple(said.get(name, ())) for name in _LISTS}
        return cls(**{**said, **lists, "steps": Steps.described(said.get("steps", {}))})

    def digest(self, identity: Identity) -> str:
        """Return the SHA-256 of the recipe and of its sources' identity. Local."""
        text = json.dumps([self.describe(), identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def roles(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the role of each feature column, in the table's order; None is still to be inferred. Local.

        Derived columns come last.

        Parameters
        ----------
        names : sequence of str
            Columns of the table.

        Raises
        ------
        DataError
            A column that is named here is not there, or no feature is left.
        """
        names = [*names, *(name for name in self.steps.derive if name not in names)]
        target = [] if self.target is None else [self.target]
        for name in (*self.numeric, *self.categorical, *self.include, *self.exclude, *self.beside, *target):
            if name not in names:
                raise DataError(near(name, list(names)))
        barred = {*self.exclude, *self.beside, self.target}
        allowed = [name for name in names if name in (self.include or names) and name not in barred]
        given = {**dict.fromkeys(self.numeric, "numeric"), **dict.fromkeys(self.categorical, "categorical")}
        cast = {name: _ROLES[kind] for name, kind in self.steps.cast.items()}
        roles = {n: given.get(n, cast.get(n)) for n in allowed if n in given or not given}
        if not roles:
            raise DataError("no column is left as a feature")
        return roles


_ROLES = {"number": "numeric", "integer": "numeric", "boolean": "numeric", "category": "categorical"}


def resolve_source(text: str | Sequence[str], base: Path | None = None) -> list[Path]:
    """Return the files that `data.source` names. Local; imports nothing.

    Parameters
    ----------
    text : str or sequence of str
        A path, a glob, ``package:NAME/FILE`` for a file of an installed package, or a list of them. The
        files of a glob are sorted, those of a list stay in its order.
    base : Path, optional
        What relative paths start from.

    Raises
    ------
    DataError
        A file or a package is not there.
    """
    if not isinstance(text, str):
        files = [path for one in text for path in resolve_source(one, base)]
        if not files:
            raise DataError("the list of sources is empty")
        return files
    if text.startswith("package:"):
        return [_package_file(text)]
    path = (base or Path()) / Path(text).expanduser()
    if path.is_file():
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [one for one in found if one.is_file()]
    if not files:
        raise DataError(f"{path} is a directory" if path.is_dir() else f"there is no file {path}")
    return files


def _package_file(text: str) -> Path:
    """Return the file that ``package:NAME/FILE`` names."""
    package, _, inside = text.removeprefix("package:").partition("/")
    if not package.isidentifier() or not inside:
        raise DataError(f"{text!r} is not of the form package:NAME/FILE")
    # find_spec of a top-level name looks, and runs nothing of the package.
    spec = find_spec(package)
    if spec is None:
        raise DataError(
            f"package {package} is not installed; pip install 'hpcml[examples]' brings those of the examples"
        )
    for folder in spec.submodule_search_locations or ():
        if Path(folder, inside).is_file():
            return Path(folder, inside)
    raise DataError(f"package {package} has no file {inside}")


def source_identity(comm: Communicator, sources: Sequence[Path | str]) -> Identity:
    """Return name, size and SHA-256 of each source. Collective, three small messages; files are dealt out.

    Raises
    ------
    DataError
        A source cannot be read.
    """
    mine: Identity = []
    with agreed(comm):
        if not sources:
            raise DataError("there is no source to convert")
        mine = [_identity(Path(path)) for path in sources[comm.rank :: comm.size]]
    parts = comm.allgather(mine)
    return [parts[i % comm.size][i // comm.size] for i in range(len(sources))]


def _identity(path: Path) -> dict[str, Any]:
    try:
        return {"name": path.name, "size": path.stat().st_size, "sha256": file_digest(path)}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
