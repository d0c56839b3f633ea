"""Go on with a run from its last checkpoint, on any number of ranks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from hpcml.cli.run import add_outcome, add_overrides, run_spec
from hpcml.errors import SpecError
from hpcml.run.checks import spec_hash
from hpcml.spec import Spec, parse_spec

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    add_overrides(parser)
    add_outcome(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the spec that a run directory holds, in that directory."""
    return run_spec(args, lambda: _load(args), args.run)


def _load(args: argparse.Namespace) -> tuple[Spec, str]:
    path = args.run / "resolved.yaml"
    try:
        text, given = path.read_text(), (args.run / "spec.yaml").read_text()
    except OSError as error:
        raise SpecError(f"{args.run}: is not a run directory ({error.strerror}: {error.filename})") from None
    spec = parse_spec(text, source=str(path), directory=args.run, overrides=[*args.overrides, *args.set])
    began = parse_spec(text, source=str(path), directory=args.run)
    if spec_hash(spec) != spec_hash(began):
        raise SpecError("resume: an override changes the answer of the run; start another run for it")
    # Not an override, which would be read as YAML: a directory may be called anything.
    return replace(spec, output=replace(spec.output, dir=args.run, id=None, overwrite="never")), given
