"""Verbs that work on MPI ranks: start them, or be one of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcml.collectives.launch import is_launched
from hpcml.errors import HpcmlError
from hpcml.run.launch import launch, one_blas_thread, wanted_ranks

if TYPE_CHECKING:
    from hpcml.collectives import Communicator

__all__ = ["add_ranks", "on_ranks"]


def add_ranks(parser: argparse.ArgumentParser, default: str) -> None:
    """Add -n to a verb."""
    parser.add_argument(
        "-n",
        type=int,
        metavar="N",
        help=f"ranks to start, unless a launcher has started them (default: {default})",
    )


def on_ranks(args: argparse.Namespace, work: Callable[[Communicator], int]) -> int:
    """Do `work` on -n ranks, or on those that a launcher has started."""
    n = wanted_ranks(None, args.n)
    if n > 1 and not is_launched():
        return launch(None, n, args.argv, None)
    one_blas_thread()
    from hpcml.collectives import world
    from hpcml.collectives.abort import end_job

    comm = world()
    try:
        return work(comm)
    except HpcmlError as error:
        if not error.on_all_ranks and comm.size > 1:
            from hpcml.cli.terminal import complain

            complain(str(error))
            end_job(error.exit_code)
        raise
