"""Convert tables to HDF5, or what a spec's data section names; HDF5 to tables; add rows to a conversion."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.terminal import say, tell
from hpcml.errors import SpecError
from hpcml.spec import load_spec

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["configure", "execute"]

_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
_SPEC = (".yaml", ".yml", ".json")
_RECIPE = (
    "target",
    "threshold",
    "numeric",
    "categorical",
    "exclude",
    "missing",
    "layout",
    "dtype",
    "format",
    "index_base",
    "n_features",
)
_NAMES = ("x", "y")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="FILE",
        help="tables (or package:NAME/FILE) and, last, the HDF5 file to write; one HDF5 file and the table "
        "to write; or one spec",
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="YAML: filters, derived columns, ...")
    parser.add_argument("--append", action="store_true", help="add the rows to a conversion, by its recipe")
    parser.add_argument("--overwrite", action="store_true", help="replace a table that is there")
    parser.add_argument("--target", metavar="COLUMN", help="the column that becomes y")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="y is 1 where the target is above, else 0"
    )
    parser.add_argument("--numeric", type=_names, metavar="A,B", help="columns taken as numbers")
    parser.add_argument("--categorical", type=_names, metavar="A,B", help="columns taken as categories")
    parser.add_argument("--exclude", type=_names, metavar="A,B", help="columns left out")
    parser.add_argument(
        "--missing", choices=("error", "mean", "median", "most_frequent", "drop", "indicator")
    )
    parser.add_argument("--layout", choices=("auto", "dense", "csr"))
    parser.add_argument("--dtype", choices=("float64", "float32"))
    parser.add_argument("--format", choices=("auto", "csv", "jsonl", "libsvm", "npy", "parquet"))
    parser.add_argument("--index-base", choices=("auto", "0", "1"), help="first index of libsvm files")
    parser.add_argument(
        "--features", dest="n_features", type=int, metavar="D", help="columns of libsvm files"
    )
    parser.add_argument("--x", metavar="NAME", help="data set or group of X (default: X)")
    parser.add_argument("--y", metavar="NAME", help="data set of y (default: y)")
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Write the file."""
    return on_ranks(args, Path(args.sources[-1]), lambda comm: _convert(args, comm))


def _convert(args: argparse.Namespace, comm: Communicator) -> int:
    first, last = Path(args.sources[0]), Path(args.sources[-1])
    if len(args.sources) == 2 and first.suffix.lower() in _HDF5 and last.suffix.lower() not in _HDF5:
        return _export(args, comm, first, last)
    return _append(args, comm) if args.append else _import(args, comm)


def _export(args: argparse.Namespace, comm: Communicator, source: Path, destination: Path) -> int:
    from hpcml.collectives import agreed
    from hpcml.io.export.file import SUFFIXES, export
    from hpcml.io.read.hdf5 import Columns

    with agreed(comm):
        _refuse(args, "only the way to HDF5 has a recipe", "append", "recipe", *_RECIPE)
        if destination.suffix.lower() not in SUFFIXES:
            raise SpecError(f"the suffix of {destination} says no format; choose from {', '.join(SUFFIXES)}")
    names = Columns(args.x or "X", args.y or "y")
    n_rows = export(comm, source, destination, names, say, overwrite=args.overwrite)
    if comm.rank == 0:
        tell(f"{destination}: {n_rows:,} rows")
    return 0


def _append(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.collectives import agreed
    from hpcml.io.convert.append import append
    from hpcml.io.convert.recipe import resolve_source

    with agreed(comm):
        _refuse(
            args, "--append goes by the recipe that is in the file", "recipe", "overwrite", *_RECIPE, *_NAMES
        )
        if len(args.sources) < 2:
            raise SpecError("convert --append: give the tables and, last, the conversion to add them to")
        sources = resolve_source(args.sources[:-1])
    _tell(comm, append(comm, sources, Path(args.sources[-1]), say))
    return 0


def _import(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.collectives import agreed
    from hpcml.io.convert.conversion import convert

    with agreed(comm):
        _refuse(args, "a conversion replaces an older one, and nothing else", "overwrite")
        sources, destination, recipe = _of_spec(args) if len(args.sources) == 1 else _of_arguments(args)
    _tell(comm, convert(comm, sources, destination, recipe, say))
    return 0


def _tell(comm: Communicator, report: Any) -> None:
    if comm.rank == 0:
        tell(f"{report.path}: {report.n_samples:,} rows x {report.n_features:,} features, {report.layout}")


def _refuse(args: argparse.Namespace, why: str, *names: str) -> None:
    for name in names:
        if getattr(args, name) not in (None, False):
            option = "features" if name == "n_features" else name.replace("_", "-")
            raise SpecError(f"convert: --{option} does not fit: {why}")


def _of_spec(args: argparse.Namespace) -> tuple[Any, Path, Any]:
    from hpcml.io.convert.recipe import resolve_source
    from hpcml.run.making import make_recipe

    if not args.sources[0].endswith(_SPEC):
        raise SpecError("convert: give the tables and, last, the HDF5 file to write; or one spec")
    _refuse(args, "the spec says how", "recipe", *_RECIPE, *_NAMES)
    data = load_spec(Path(args.sources[0])).data
    if not data.source:
        raise SpecError(f"{args.sources[0]}: data.source names no tables")
    return resolve_source(list(data.source)), data.path[0], make_recipe(data)


def _of_arguments(args: argparse.Namespace) -> tuple[Any, Path, Any]:
    from hpcml.io.convert.recipe import Recipe, resolve_source
    from hpcml.io.convert.recipe_file import read_recipe

    *sources, destination = args.sources
    given = {name: getattr(args, name) for name in (*_RECIPE, *_NAMES) if getattr(args, name) is not None}
    written = {} if args.recipe is None else read_recipe(args.recipe)
    for name in given.keys() & written.keys():
        raise SpecError(f"convert: {name} is given in {args.recipe} and on the command line; give it once")
    return resolve_source(sources), Path(destination), Recipe(**written, **given)
