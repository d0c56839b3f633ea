"""Run the main job on 1 and 2 ranks, in turn, and print the table of the README.

    .venv/bin/python benchmarks/scaling.py [--runs 5] [--ranks 1 2] [key=value ...]

Figures are medians over the runs; a first run on each number of ranks is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = Path(__file__).resolve().parent.parent / "jobs" / "flights_delay.yaml"
PHASES = ("read", "solve", "evaluate", "total")


def run_once(n_ranks, overrides):
    with tempfile.TemporaryDirectory() as directory:
        own = [f"output.dir={directory}/run", "output.progress=none", "--json", "-n", str(n_ranks)]
        argv = [sys.executable, "-m", "hpcml", "run", str(SPEC), *overrides, *own]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(args):
    """Return the results by number of ranks; runs alternate, so that a slower moment strikes all alike."""
    results = {n: [] for n in args.ranks}
    for i in range(args.runs + 1):
        for n in args.ranks:
            result = run_once(n, args.overrides)
            if i:
                results[n].append(result)
    return results


def row(results, first):
    medians = {phase: statistics.median(r["seconds"][phase] for r in results) for phase in PHASES}
    solve = statistics.median(r["seconds"]["solve"] for r in first)
    cells = [str(results[0]["n_ranks"]), *(f"{medians[phase]:.2f}" for phase in PHASES)]
    return [*cells, f"{solve / medians['solve']:.2f}", results[0]["model_digest"][:12]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    args, args.overrides = parser.parse_known_args()
    results = measure(args)
    assert len({r["model_digest"] for rs in results.values() for r in rs}) == 1, "the bits differ"
    head = ["ranks", *(f"{phase} (s)" for phase in PHASES), "speed-up of solve", "model digest"]
    rows = [head, *(row(results[n], results[args.ranks[0]]) for n in args.ranks)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    padded = [[cell.ljust(width) for cell, width in zip(r, widths, strict=True)] for r in rows]
    lines = ["  ".join(cells).rstrip() for cells in padded]
    print("\n".join([rule, lines[0], rule, *lines[1:], rule]))


if __name__ == "__main__":
    main()
