"""Print a spec with all defaults filled, and where each value came from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hpcml.cli.run import add_overrides
from hpcml.cli.terminal import tell
from hpcml.errors import SpecError
from hpcml.run.checks import check_spec
from hpcml.spec import describe, load_spec, origins, render_yaml, resolved

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC", help="a YAML file")
    add_overrides(parser)
    parser.add_argument(
        "--keys", action="store_true", help="list every key with its type, default and meaning"
    )
    parser.add_argument("--yaml", action="store_true", help="print YAML that can be run, without origins")
    parser.add_argument("--json", action="store_true", help="print JSON, without origins")


def execute(args: argparse.Namespace) -> int:
    """Print a resolved spec, or the table of keys."""
    if args.keys:
        tell(_keys())
        return 0
    if args.spec is None:
        raise SpecError("show: give a spec, or --keys")
    spec = load_spec(args.spec, [*args.overrides, *args.set])
    check_spec(spec)
    tree = resolved(spec)
    if args.json:
        tell(json.dumps(tree, indent=2))
    elif args.yaml:
        tell(render_yaml(tree))
    else:
        tell(_with_origins(tree, dict(origins(spec))))
    return 0


def _keys() -> str:
    lines = []
    for row in describe():
        later = "" if row.available else "  (not in this version)"
        lines.append(f"{row.key}\n    {row.type}, default {row.default}{later}\n    {row.doc}")
    return "\n".join(lines)


def _leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        return [
            leaf for key, item in tree.items() for leaf in _leaves(item, f"{path}.{key}" if path else key)
        ]
    return [(path, tree)]


def _with_origins(tree: dict[str, Any], where: dict[str, str]) -> str:
    leaves = [(key, json.dumps(value)) for key, value in _leaves(tree)]
    wide, wider = max(len(key) for key, _ in leaves), min(max(len(value) for _, value in leaves), 40)
    return "\n".join(f"{key:<{wide}}  {value:<{wider}}  {where.get(key, 'default')}" for key, value in leaves)
