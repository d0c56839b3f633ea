"""Write an HDF5 file again in other chunks, with another compression or in one piece."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.storage import add_storage, make_storage
from hpcml.cli.terminal import say, tell

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("source", type=Path, metavar="SRC", help="the HDF5 file to read")
    parser.add_argument("destination", type=Path, metavar="DST", help="the HDF5 file to write")
    add_storage(parser)
    parser.add_argument(
        "--dtype", choices=("float64", "float32"), help="of floating-point X (default: as it is)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST")
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Write the file."""
    return on_ranks(args, args.destination, lambda comm: _rechunk(args, comm))


def _rechunk(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.collectives import agreed
    from hpcml.io.write.rechunk import Target, rechunk

    with agreed(comm):
        target = Target(make_storage(args), args.dtype)
    report = rechunk(comm, args.source, args.destination, target, say, overwrite=args.overwrite)
    if comm.rank == 0:
        sizes = f"{report.bytes_before:,} bytes before, {report.bytes_after:,} now"
        tell(f"{report.path}: {report.n_datasets} data sets; {sizes}")
    return 0
