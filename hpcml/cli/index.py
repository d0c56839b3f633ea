"""Write the index of data files: later jobs notice damage, and need not look through the rows again."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.terminal import say
from hpcml.errors import DataError, SpecError

if TYPE_CHECKING:
    from hpcml.collectives import Communicator
    from hpcml.spec import Spec

__all__ = ["configure", "execute"]

_SPECS = (".yaml", ".yml")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="HDF5 files, or one spec: the files and parts of its job",
    )
    parser.add_argument(
        "-x", "--x", default="", metavar="NAME", help="data set or CSR group of the rows (default: X)"
    )
    parser.add_argument(
        "-y", "--y", default="", metavar="NAME", help="data set of the labels (default: y, if there is one)"
    )
    parser.add_argument("--weight", metavar="NAME", help="data set of the weights (default: none)")
    parser.add_argument("--offset", metavar="NAME", help="data set of the offsets (default: none)")
    parser.add_argument("--exposure", metavar="NAME", help="data set of the exposures (default: none)")
    parser.add_argument(
        "--allow-external",
        action="store_true",
        help="follow links and virtual data sets out of the directory",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the spec")
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Write the indexes."""
    is_spec = args.files[0].suffix in _SPECS
    columns = (args.x, args.y, args.weight, args.offset, args.exposure)
    if is_spec and (any(columns) or args.allow_external):
        cure = "leave -x, -y, --weight, --offset, --exposure and --allow-external out"
        raise SpecError(f"index: a spec names its data sets; {cure}")
    if args.set and not is_spec:
        raise SpecError("index: --set changes a spec, and data files were given")
    work = _of_spec(args) if is_spec else _of_files(args)

    def index(comm: Communicator) -> int:
        work(comm, (lambda line: say(f"hpcml: {line}")) if comm.rank == 0 else lambda line: None)
        return 0

    return on_ranks(args, args.files[0], index)


def _of_files(args: argparse.Namespace) -> Callable[[Communicator, Callable[[str], None]], None]:
    def work(comm: Communicator, tell: Callable[[str], None]) -> None:
        from hpcml.io.read.hdf5 import Columns
        from hpcml.io.read.opening import ALLOW
        from hpcml.run.indexing import index_files

        columns = Columns(args.x or "X", args.y, args.weight, args.offset, args.exposure)
        try:
            index_files(comm, args.files, columns, tell, allow_external=args.allow_external)
        except DataError as error:  # no spec was given
            error.args = (str(error).replace(ALLOW, "give --allow-external"),)
            raise

    return work


def _of_spec(args: argparse.Namespace) -> Callable[[Communicator, Callable[[str], None]], None]:
    from hpcml.run.checks import check_spec
    from hpcml.spec import load_spec

    if len(args.files) > 1:
        raise SpecError(f"index: give one spec, or data files, not both: {', '.join(map(str, args.files))}")
    spec: Spec = load_spec(args.files[0], args.set)
    check_spec(spec)

    def work(comm: Communicator, tell: Callable[[str], None]) -> None:
        from hpcml.run.indexing import index_job

        index_job(comm, spec, tell)

    return work
