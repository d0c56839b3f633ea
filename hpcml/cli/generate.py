"""Make synthetic data of any size: classification, regression, counts, blobs or sparse."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.storage import add_storage, make_storage
from hpcml.cli.terminal import say, tell
from hpcml.spec.schema_generate import GENERATED

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["configure", "execute"]

_OF_KIND = ("classes", "informative", "centers", "noise", "density", "condition", "weights")
_RECIPE = ("kind", "rows", "features", *_OF_KIND, "seed", "dtype")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb; what is not given has the default of `data.generate`."""
    parser.add_argument("kind", choices=GENERATED, help="what y is, and how X is made")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the HDF5 file")
    parser.add_argument("--rows", type=int, required=True, metavar="N")
    parser.add_argument("--features", type=int, required=True, metavar="D")
    parser.add_argument("--classes", type=int, metavar="K", help="classification, sparse (default: 2)")
    parser.add_argument(
        "--informative", type=int, metavar="N", help="features that y depends on (default: 10; sparse: all)"
    )
    parser.add_argument("--centers", type=int, metavar="K", help="blobs (default: 3)")
    parser.add_argument(
        "--noise",
        type=float,
        metavar="S",
        help="deviation added to y (regression, default 1), to the log rate (counts, 0), of a blob (1); or "
        "share of labels drawn at random (classification and sparse, 0.01)",
    )
    parser.add_argument("--density", type=float, metavar="P", help="of sparse X (default: 0.01)")
    parser.add_argument(
        "--condition",
        type=float,
        metavar="C",
        help="condition number of the covariance of dense X (default: 1)",
    )
    parser.add_argument("--weights", action="store_true", default=None, help="write row weights too")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--dtype", choices=("float64", "float32"), help="of X (default: float64)")
    add_storage(parser)
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Write the file."""
    return on_ranks(args, args.output, lambda comm: _generate(args, comm))


def _generate(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.collectives import agreed
    from hpcml.data.synthetic import Synthetic
    from hpcml.io.write.generate import generate_file

    given = {name: getattr(args, name) for name in _RECIPE if getattr(args, name) is not None}
    with agreed(comm):
        settings, storage = Synthetic(**given), make_storage(args)
    report = generate_file(comm, args.output, settings, storage, say)
    if comm.rank == 0:
        shape = f"{settings.rows:,} rows x {settings.features:,} features"
        tell(f"{report.path}: {settings.kind}, {shape}, {report.n_bytes:,} bytes")
    return 0
