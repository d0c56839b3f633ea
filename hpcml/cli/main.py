"""The command line: a verb, its arguments, its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hpcml import __version__
from hpcml.cli.terminal import complain, say, speaks
from hpcml.errors import HpcmlError

__all__ = ["main"]

_VERBS = (
    "run",
    "resume",
    "validate",
    "show",
    "convert",
    "generate",
    "rechunk",
    "index",
    "inspect",
    "stats",
    "predict",
    "evaluate",
)
"""Modules of this package, in the order of the help."""
_EXIT_CODES = (
    "exit codes: 0 done; 1 internal error; 2 bad spec or usage; 3 bad data; 4 not converged (with "
    "--require-convergence); 5 output failed (space, quota, permission)"
)


class _Parser(argparse.ArgumentParser):
    """A parser whose help and complaints come from one rank alone."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if speaks():
            super()._print_message(message, file)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the verb that is asked for: each rank opens the files of no other."""
    parser = _Parser(
        prog="hpcml",
        description="Machine learning on MPI ranks, the same bits on any number of them.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"hpcml {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in argv[:1] if argv and argv[0] in _VERBS else _VERBS:
        module = import_module(f"hpcml.cli.{name}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        verb = verbs.add_parser(name, help=summary, description=summary, epilog=_EXIT_CODES)
        verb.add_argument("--debug", action="store_true", help="print tracebacks of user errors too")
        module.configure(verb)
        verb.set_defaults(execute=module.execute)
    return parser


def _parsed(argv: list[str]) -> argparse.Namespace:
    """Parse arguments; overrides may stand before, between and after options, which argparse cannot do."""
    parser = _parser(argv)
    args, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(args, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    args.argv = argv
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of this process by default.
    """
    args = _parsed(list(sys.argv[1:] if argv is None else argv))
    try:
        return int(args.execute(args))
    except HpcmlError as error:
        if speaks():
            complain(str(error))
            if args.debug:
                say("".join(traceback.format_exception(error)))
        return error.exit_code
    except KeyboardInterrupt:
        say("hpcml: interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read the output has left; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
