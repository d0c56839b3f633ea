"""Measure a model on the rows of a data file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.terminal import tell

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["add_rows", "configure", "execute"]


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the model and the rows that it works on."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file, or a run directory")
    parser.add_argument("data", type=Path, metavar="DATA", help="an HDF5 file")
    parser.add_argument(
        "-x", default="X", metavar="NAME", help="data set or CSR group of the rows (default: X)"
    )
    parser.add_argument("--offset", metavar="NAME", help="data set of the offsets, for a model that has them")
    parser.add_argument("--exposure", metavar="NAME", help="data set of exposures, in place of --offset")
    parser.add_argument(
        "--part",
        choices=("all", "train", "test"),
        default="all",
        help="rows of the split that the model was trained with",
    )
    add_ranks(parser, "1")


def model_path(args: argparse.Namespace) -> Path:
    """Return the model file that was meant."""
    return Path(args.model / "model.h5" if args.model.is_dir() else args.model)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_rows(parser)
    parser.add_argument("-y", default="y", metavar="NAME", help="data set of the labels (default: y)")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="repeatable; by default those of the task",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(args: argparse.Namespace) -> int:
    """Print the metrics."""
    return on_ranks(args, model_path(args), lambda comm: _evaluate(args, comm))


def _evaluate(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.run.trained import Rows, evaluate_model

    rows = Rows(args.data, args.x, args.y, args.part, args.offset, args.exposure)
    scores = evaluate_model(comm, model_path(args), rows, tuple(args.metric))
    if comm.rank == 0 and args.json:
        tell(json.dumps({"metrics": scores.metrics, "n_rows": scores.n_rows, "notes": scores.notes}))
    elif comm.rank == 0:
        lines = [
            ("rows", f"{scores.n_rows:,}"),
            *((name, f"{value:.10f}") for name, value in scores.metrics.items()),
        ]
        tell("\n".join(f"{name:<12} {value}" for name, value in [*lines, *scores.notes.items()]))
    return 0
