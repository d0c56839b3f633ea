"""Apply a model to the rows of a data file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.cli.evaluate import add_rows, model_path
from hpcml.cli.ranks import on_ranks
from hpcml.cli.terminal import tell

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_rows(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="the HDF5 file to write"
    )
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="row i of OUT is row i of DATA, NaN where it is not of the part (always so for --part all)",
    )


def execute(args: argparse.Namespace) -> int:
    """Write the predictions."""
    return on_ranks(args, args.output, lambda comm: _predict(args, comm))


def _predict(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.run.predictions import predict_rows
    from hpcml.run.trained import Rows

    rows = Rows(args.data, args.x, None, args.part, args.offset, args.exposure)
    n_rows = predict_rows(comm, model_path(args), rows, args.output, args.aligned)
    if comm.rank == 0:
        tell(f"{args.output}: predictions of {n_rows:,} rows")
    return 0
