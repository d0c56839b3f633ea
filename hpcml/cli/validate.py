"""Check specs without running anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpcml.cli.terminal import complain, say, tell
from hpcml.errors import HpcmlError
from hpcml.run.checks import check_spec, warnings_of
from hpcml.spec import load_spec

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("specs", nargs="+", type=Path, metavar="SPEC", help="YAML files")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of every spec")
    parser.add_argument("--strict", action="store_true", help="take warnings for errors")
    parser.add_argument("--json", action="store_true", help="one JSON object a spec")


def execute(args: argparse.Namespace) -> int:
    """Say of each spec whether it is good; exit 2 if one is not."""
    return max([_check(args, path) for path in args.specs])


def _check(args: argparse.Namespace, path: Path) -> int:
    error, warnings, name = None, [], None
    try:
        spec = load_spec(path, args.set)
        check_spec(spec)
        name, warnings = spec.name, warnings_of(spec)
    except HpcmlError as caught:
        error = str(caught)
    bad = error is not None or (args.strict and bool(warnings))
    if args.json:
        tell(
            json.dumps(
                {"spec": str(path), "name": name, "valid": not bad, "error": error, "warnings": warnings}
            )
        )
        return 2 if bad else 0
    for warning in warnings:
        say(f"hpcml: warning: {path}: {warning}")
    if error is not None:
        complain(error)
    elif not bad:
        tell(f"{path}: {name} is valid")
    return 2 if bad else 0
