"""Say what an HDF5 file, a model, a checkpoint or a run directory holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcml.cli.terminal import tell
from hpcml.errors import DataError
from hpcml.io.sizes import human_bytes

__all__ = ["configure", "execute"]

_OF_ROWS = ("storage", "shares", "links", "problems")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "path", type=Path, metavar="FILE", help="an HDF5 file, a model, a checkpoint or a run directory"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(args: argparse.Namespace) -> int:
    """Print what is there, from metadata alone."""
    found = _describe(args.path)
    tell(json.dumps(found, indent=2) if args.json else "\n".join(map(_printable, _report(found))))
    return 0


def _describe(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return _describe_run(path)
    if path.suffix == ".ckpt":
        from hpcml.io.checkpoint import read_checkpoint

        return {"kind": "checkpoint", "path": str(path), "state": _shapes(read_checkpoint(path))}
    from hpcml.io.describe.preflight import preflight

    return preflight(path)


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


def _printable(line: str) -> str:
    """Return a line without what a name in a file could do to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _report(found: dict[str, Any]) -> list[str]:
    """Return the lines to print: tables of an HDF5 file with rows, plain lines of everything else."""
    if found["kind"] != "HDF5 file":
        return _lines({key: value for key, value in found.items() if key not in _OF_ROWS or value})
    head = {"kind": found["kind"], "path": found["path"], "size": human_bytes(found["bytes"])}
    head |= {key: found[key] for key in ("content digest", "index") if key in found}
    sections = (
        _words("data sets", found["data sets"]),
        _words("links", found["links"]),
        _storage(found["storage"]),
        _words("sources", _sources(found["storage"])),
        _shares(found["shares"]),
        _striping(found["striping"]),
        _bullets("problems: a job would refuse these", [{"text": text} for text in found["problems"]]),
        _bullets("advice", found["advice"]),
    )
    return _lines(head) + [line for section in sections if section for line in ("", *section)]


def _lines(tree: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key:<18} {shown}")
    return lines


def _words(title: str, texts: dict[str, str]) -> list[str]:
    width = max(map(len, texts), default=0)
    return [title, *(f"  {name:<{width}}  {text}" for name, text in texts.items())] if texts else []


def _bullets(title: str, said: list[dict[str, str]]) -> list[str]:
    lines = []
    for each in said:
        lines += [f"  - {each['text']}", *([f"      {each['command']}"] if "command" in each else [])]
    return [title, *lines] if lines else []


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines, names to the left, numbers to the right, without columns that say nothing."""
    if not rows:
        return []
    grid = [[title, *columns], *(["  " + name, *cells] for name, *cells in rows)]
    said = [column for column in zip(*grid, strict=True) if set(column[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in said]
    lines = []
    for name, *cells in zip(*said, strict=True):
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *numbers]))
    return lines


def _storage(storage: dict[str, Any]) -> list[str]:
    columns = ("stored", "in memory", "ratio", "filters", "chunks", "missing", "a row", "8 MiB")
    lines = _table(
        "storage", columns, [[name, *_costs(each)] for name, each in storage.items() if each["bytes"]]
    )
    if any("chunks" in each for each in storage.values()):
        lines.append(
            "  a row, 8 MiB: bytes read for a byte wanted, of one row or 8 MiB of rows from anywhere on"
        )
    return lines


def _costs(each: dict[str, Any]) -> list[str]:
    stored, read = each["stored bytes"], each.get("amplification", {})
    return [
        human_bytes(stored) if stored else "-",
        human_bytes(each["bytes"]),
        f"{each['ratio']:.1f}x" if "ratio" in each else "-",
        _filters(each.get("filters", [])),
        str(each.get("n chunks", "-")),
        str(each.get("missing chunks") or "-"),
        *(f"{read[what]:.1f}x" if what in read else "-" for what in ("row", "8 MiB")),
    ]


def _filters(filters: list[dict[str, Any]]) -> str:
    names = [one["name"] + (f":{one['level']}" if one["level"] is not None else "") for one in filters]
    return "+".join(names) or "-"


def _sources(storage: dict[str, Any]) -> dict[str, str]:
    """Return which other files a data set takes its rows or bytes from."""
    shown = {}
    for name, each in storage.items():
        if files := each.get("sources") or each.get("external files"):
            several = f"{len(files)} files, from {files[0]} to {files[-1]}"
            shown[name] = files[0] if len(files) == 1 else several
    return shown


def _shares(shares: dict[str, Any]) -> list[str]:
    rows = [
        ["" if i else name, dtype, *map(human_bytes, sizes)]
        for name, each in shares.items()
        for i, (dtype, sizes) in enumerate(each.items())
    ]
    return _table("memory of a rank, with labels", ("as", "1 rank", "16 ranks", "256 ranks"), rows)


def _striping(parts: list[dict[str, Any]]) -> list[str]:
    rows = [
        [f"from {human_bytes(part['start'])}", str(part["stripe_count"]), human_bytes(part["stripe_bytes"])]
        for part in parts
    ]
    return _table("Lustre", ("servers", "stripe"), rows)
