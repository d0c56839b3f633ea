"""Convert tables (CSV, Parquet, NumPy) to HDF5, or what a spec's data section names."""

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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "sources", nargs="+", metavar="SRC", help="tables, package:NAME/FILE, or one spec and no DST"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column that becomes y")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="y is 1 where the target is above, else 0"
    )
    parser.add_argument("--numeric", type=_names, default=(), metavar="A,B", help="columns taken as numbers")
    parser.add_argument(
        "--categorical", type=_names, default=(), metavar="A,B", help="columns taken as categories"
    )
    parser.add_argument("--exclude", type=_names, default=(), metavar="A,B", help="columns left out")
    parser.add_argument("--missing", choices=("error", "mean", "drop", "indicator"), default="error")
    parser.add_argument("--layout", choices=("auto", "dense", "csr"), default="auto")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--format", choices=("auto", "csv", "parquet", "npy"), default="auto")
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Write the HDF5 file."""
    return on_ranks(args, Path(args.sources[-1]), lambda comm: _convert(args, comm))


def _convert(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.collectives import agreed
    from hpcml.io.convert import convert

    with agreed(comm):
        sources, destination, recipe = _of_spec(args) if len(args.sources) == 1 else _of_arguments(args)
    report = convert(comm, sources, destination, recipe, say)
    if comm.rank == 0:
        tell(f"{report.path}: {report.n_samples:,} rows x {report.n_features:,} features, {report.layout}")
    return 0


def _of_spec(args: argparse.Namespace) -> tuple[Any, Path, Any]:
    from hpcml.io.recipe import resolve_source
    from hpcml.run.inputs import make_recipe

    if not args.sources[0].endswith((".yaml", ".yml", ".json")):
        raise SpecError("convert: give the tables and, last, the HDF5 file to write; or one spec")
    data = load_spec(Path(args.sources[0])).data
    if not data.source:
        raise SpecError(f"{args.sources[0]}: data.source names no tables")
    return resolve_source(list(data.source)), Path(data.path), make_recipe(data)


def _of_arguments(args: argparse.Namespace) -> tuple[Any, Path, Any]:
    from hpcml.io.recipe import Recipe, resolve_source

    *sources, destination = args.sources
    recipe = Recipe(
        numeric=args.numeric,
        categorical=args.categorical,
        exclude=args.exclude,
        target=args.target,
        threshold=args.threshold,
        missing=args.missing,
        layout=args.layout,
        dtype=args.dtype,
        format=args.format,
    )
    return resolve_source(sources), Path(destination), recipe
