"""Say what an HDF5 file, a model, a checkpoint or a run directory holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hpcml.cli.terminal import tell
from hpcml.errors import DataError

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "path", type=Path, metavar="FILE", help="an HDF5 file, a model, a checkpoint or a run directory"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(args: argparse.Namespace) -> int:
    """Print what is there, from metadata alone."""
    found = _describe(args.path)
    tell(json.dumps(found, indent=2) if args.json else "\n".join(_lines(found)))
    return 0


def _describe(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return _describe_run(path)
    if path.suffix == ".ckpt":
        from hpcml.io.checkpoint import read_checkpoint

        return {"kind": "checkpoint", "path": str(path), "state": _shapes(read_checkpoint(path))}
    from hpcml.io.describe import describe_file

    return describe_file(path)


def _describe_run(path: Path) -> dict[str, Any]:
    from hpcml.run.directory import RunDirectory

    run = RunDirectory(path)
    if not run.state:
        raise DataError(f"{path}: is not a run directory")
    checkpoints = [file.name for file in sorted(run.checkpoints.glob("step-*.ckpt"))]
    found = {"kind": "run", "path": str(path), **run.state, "checkpoints": checkpoints}
    return found | {
        key: value
        for key, value in (("result", run.finished), ("error", run.read_json("error.json")))
        if value
    }


def _shapes(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _shapes(value) for key, value in tree.items()}
    return f"{tree.dtype} {list(tree.shape)}" if hasattr(tree, "shape") and tree.shape else tree


def _lines(tree: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key:<18} {shown}")
    return lines
