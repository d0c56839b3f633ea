"""Verbs that work on MPI ranks: start them, or be one of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.collectives.launch import is_launched
from hpcml.errors import HpcmlError
from hpcml.run.directory import RunDirectory
from hpcml.run.launch import launch, one_blas_thread, wanted_ranks
from hpcml.spec import Watchdog

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


def on_ranks(args: argparse.Namespace, beside: Path, work: Callable[[Communicator], int]) -> int:
    """Do `work` on -n ranks, or on those that a launcher has started.

    Ranks that wait for long speak in a directory beside the file `beside`.
    """
    n = wanted_ranks(None, args.n)
    if n > 1 and not is_launched():
        return launch(None, n, args.argv, None)
    one_blas_thread()
    from hpcml.collectives import world
    from hpcml.collectives.abort import end_job

    comm = world()
    _watch(comm, RunDirectory(beside).watch)
    try:
        return work(comm)
    except HpcmlError as error:
        if not error.on_all_ranks and comm.size > 1:
            from hpcml.cli.terminal import complain

            complain(str(error))
            end_job(error.exit_code)
        raise


def _watch(comm: Communicator, directory: Path) -> None:
    from hpcml.collectives.watchdog import watch
    from hpcml.run.log import warn

    def end(sentence: str) -> None:
        warn(sentence)
        comm.abort(1)

    times = Watchdog()
    watch(comm, directory, times.name_after, times.end_after, warn, end)
