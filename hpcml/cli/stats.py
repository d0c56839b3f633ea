"""Describe every column of a data file: mean, deviation, extremes, zeros, gaps, labels, correlations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcml.cli.ranks import add_ranks, on_ranks
from hpcml.cli.terminal import tell
from hpcml.run.directory import plain

if TYPE_CHECKING:
    from hpcml.algorithms.statistics import ColumnStatistics
    from hpcml.collectives import Communicator
    from hpcml.run.statistics import Described

__all__ = ["configure", "execute"]

_MOST_ROWS = 1000
_HEAD = ("mean", "deviation", "minimum", "maximum", "zeros", "missing")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("data", type=Path, metavar="FILE", help="an HDF5 file")
    parser.add_argument(
        "-x", "--x", default="X", metavar="NAME", help="data set or CSR group of the rows (default: X)"
    )
    parser.add_argument(
        "-y", "--y", default="", metavar="NAME", help="data set of the labels (default: y, if there is one)"
    )
    parser.add_argument("--weight", metavar="NAME", help="data set of the weights (default: none)")
    parser.add_argument(
        "--correlations", action="store_true", help="correlate the features, and name the closest pair"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_ranks(parser, "1")


def execute(args: argparse.Namespace) -> int:
    """Print the statistics."""
    return on_ranks(args, args.data, lambda comm: _stats(args, comm))


def _stats(args: argparse.Namespace, comm: Communicator) -> int:
    from hpcml.io.read.hdf5 import Columns
    from hpcml.run.statistics import describe_rows

    found = describe_rows(comm, args.data, Columns(args.x, args.y, args.weight), args.correlations)
    if comm.rank == 0:
        tell(json.dumps(_tree(found)) if args.json else "\n".join(_lines(args, found)))
    return 0


def _rows(names: list[str], columns: ColumnStatistics) -> list[dict[str, Any]]:
    """Return a line of numbers for each column."""
    numbers = (columns.mean, columns.deviation, columns.low, columns.high, columns.n_zero, columns.n_nan)
    lists = [part.tolist() for part in numbers]
    return [
        {"name": name, **dict(zip(_HEAD, values, strict=True))}
        for name, *values in zip(names, *lists, strict=True)
    ]


def _label(value: float, texts: list[str] | None) -> str:
    return texts[int(value)] if texts and value in range(len(texts)) else f"{value:g}"


def _tree(found: Described) -> Any:
    summary = found.summary
    tree = {
        "n_rows": summary.n_rows,
        "weight": summary.weight,
        "features": _rows(found.names, summary.features),
        "y": _rows(["y"], summary.target)[0] if summary.target else None,
        "labels": {_label(value, found.texts): n for value, n in (summary.labels or {}).items()} or None,
    }
    if summary.correlation is not None:
        tree["correlation"] = summary.correlation.tolist()
        tree["most_correlated"] = _pair(found)
    return plain(tree)


def _pair(found: Described) -> list[Any] | None:
    pair = found.summary.most_correlated
    return pair and [found.names[pair.first], found.names[pair.second], pair.correlation]


def _lines(args: argparse.Namespace, found: Described) -> list[str]:
    summary = found.summary
    weight = f", weight {summary.weight:,.6g}" if args.weight else ""
    rows = _rows(found.names[:_MOST_ROWS], summary.features.columns(slice(_MOST_ROWS)))
    target = _rows(["y" if args.y == "" else args.y], summary.target) if summary.target else []
    lines = [
        f"{args.data}:{args.x}: {summary.n_rows:,} rows x {len(found.names):,} features{weight}",
        "",
        *_table(rows + target),
    ]
    if len(found.names) > _MOST_ROWS:
        lines.append(f"... and {len(found.names) - _MOST_ROWS:,} more features; --json has all of them")
    return lines + _label_lines(found) + _pair_lines(found)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Return names to the left, numbers to the right, columns as wide as they need."""
    cells = [("feature", *_HEAD)]
    cells += [(row["name"], *(_number(row[key]) for key in _HEAD)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in cells
    ]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _label_lines(found: Described) -> list[str]:
    labels = found.summary.labels
    if not labels or len(labels) > 20:
        return []
    names = [_label(value, found.texts) for value in labels]
    width, counts = max(map(len, names)), [f"{count:,}" for count in labels.values()]
    lines = [
        f"label {name:<{width}}  {count:>{max(map(len, counts))}} rows  {n / found.summary.n_rows:6.1%}"
        for name, count, n in zip(names, counts, labels.values(), strict=True)
    ]
    return ["", *lines]


def _pair_lines(found: Described) -> list[str]:
    if found.summary.correlation is None:
        return []
    pair = _pair(found)
    if pair is None:
        return ["", "no two features can be correlated"]
    return ["", f"most correlated: {pair[0]} and {pair[1]}, {pair[2]:.6f}"]
