"""Generalised linear models: hpcml and its peers side by side, seconds to a relative gap of 1e-6.

    python benchmarks/glm.py --prepare DIR              # once: an environment for each peer, in DIR
    python benchmarks/glm.py --environments DIR [--scale 0.1] [--workloads logistic ...] [--peers glum ...]
                             [--runs 5] [--cores 2 1] [--patience 120]

A fit is a process of its own: it reads the rows, fits a few of them for what loads or compiles late, and then
the clock runs for the fit alone. Each contestant tries several settings once; the fastest within 1e-6 of the
best objective known goes on, and the contestants then take turns. Seconds are medians; a ratio is the
median of ratios over the turns. Memory is what the fit added at its peak, as a share of the bytes of X.
Ranks of hpcml and threads of the others are as many as cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import glm_stream
from glm_peers import CONTESTANTS, Fit, Race, prepare, version_of
from glm_workloads import WORKLOADS, Settings, Workload, objective, write_workload
from peers.contest import Problem, load

GAP = 1e-6
MEMORY = 0.10
ADMM = 3.0
DASK_GLM = 60.0
STREAM = "out_of_core"
EXACT = (("auto", 1e-12), ("lbfgs", 1e-12))


class Entry(NamedTuple):
    """A contestant with its best setting."""

    who: str
    method: str
    tol: float
    gap: float
    fits: list[Fit]

    @property
    def seconds(self) -> list[float]:
        return [fit.seconds for fit in self.fits]

    @property
    def reached(self) -> bool:
        return self.gap <= GAP

    def line(self) -> str:
        middle = statistics.median(self.seconds)
        spread = f"({min(self.seconds):.3f} to {max(self.seconds):.3f})"
        memory = statistics.median(fit.grown for fit in self.fits)
        missed = "" if self.reached else "  missed"
        how = f"{self.method} {self.tol:g}"
        figures = f"{middle:9.3f} s {spread:<20} gap {self.gap:8.1e} memory {memory:5.0%}"
        return f"  {self.who:<22}{how:<24}{figures}{missed}"


class Scores:
    """Objectives of the answers so far, and the best of them."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.best = float("inf")

    def of(self, fit: Fit) -> float:
        value = float("inf") if fit.coef is None else objective(self.problem, fit.coef, fit.intercept)
        self.best = min(self.best, value)
        return value


def chosen(race: Race, scores: Scores, who: str, settings: Settings) -> list[tuple[str, float, Fit, float]]:
    """Try every setting once; say which cannot run."""
    tries = []
    for method, tol in settings:
        fit = race.run(who, method, tol)
        if fit.failed:
            print(f"  {who}, {method} {tol:g}: not available: {fit.failed[:150]}", flush=True)
            if fit.failed == "not installed":
                break
            continue
        tries.append((method, tol, fit, scores.of(fit)))
    return tries


def best_entry(who: str, tries: list[tuple[str, float, Fit, float]], best: float) -> Entry:
    """Return the fastest that reached the gap, else the one that came nearest."""
    entries = [Entry(who, method, tol, value / best - 1, [fit]) for method, tol, fit, value in tries]
    reached = [entry for entry in entries if entry.reached]
    if reached:
        return min(reached, key=lambda entry: entry.seconds[0])._replace(fits=[])
    return min(entries, key=lambda entry: entry.gap)._replace(fits=[])


def compete(race: Race, workload: Workload, peers: list[str], runs: int) -> list[Entry]:
    """Return the contestants with `runs` fits each, taken in turns."""
    scores = Scores(load(race.directory))
    for method, tol in EXACT:
        scores.of(race.run("hpcml", method, tol))
    tries = {
        who: chosen(race, scores, who, settings)
        for who, settings in workload.settings.items()
        if who in peers
    }
    entries = [best_entry(who, found, scores.best) for who, found in tries.items() if found]
    for _ in range(runs):
        for entry in entries:
            entry.fits.append(race.run(entry.who, entry.method, entry.tol))
    return entries


def ratio(slow: Entry, fast: Entry) -> float:
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def verdict(sentence: str, met: bool) -> None:
    print(f"  {sentence}: {'met' if met else 'NOT met'}", flush=True)


def judge(entries: list[Entry], workload: Workload, cores: int) -> None:
    """Print the table of a workload and whether its goals are met."""
    for entry in sorted(entries, key=lambda entry: statistics.median(entry.seconds)):
        print(entry.line(), flush=True)
    by_name = {entry.who: entry for entry in entries}
    ours = by_name.get("hpcml")
    if ours is None:
        return
    peers = [entry for entry in entries if not entry.who.startswith("hpcml") and entry.reached]
    memory = statistics.median(fit.grown for fit in ours.fits)
    verdict(f"hpcml adds {memory:.0%} of the data's bytes (goal at most {MEMORY:.0%})", memory <= MEMORY)
    if peers:
        best = min(peers, key=lambda entry: statistics.median(entry.seconds))
        faster, goal = ratio(best, ours), workload.goal if cores > 1 else 1.0
        verdict(
            f"hpcml is {faster:.2f} x as fast as {best.who} (goal {goal:g})", ours.reached and faster >= goal
        )
    if "dask-glm" in by_name:
        faster = ratio(by_name["dask-glm"], ours)
        verdict(f"hpcml is {faster:.1f} x as fast as dask-glm (goal {DASK_GLM:g})", faster >= DASK_GLM)
    if "hpcml admm" in by_name:
        slower = ratio(by_name["hpcml admm"], ours)
        verdict(f"admm takes {slower:.2f} x the time of newton (goal at most {ADMM:g})", slower <= ADMM)


def measure(name: str, args: argparse.Namespace, directory: Path) -> None:
    write_workload(name, args.scale, directory)
    for cores in args.cores:
        problem = load(directory)
        shape = f"{problem.n:,} x {problem.X.shape[1]:,} {problem.X.dtype}"
        print(f"{name}: {shape}, {cores} core{'s' * (cores > 1)}", flush=True)
        del problem
        race = Race(directory, args.environments, cores, args.patience)
        judge(compete(race, WORKLOADS[name], args.peers, args.runs), WORKLOADS[name], cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="install the peers there, and end")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="where they were installed")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    names = [*WORKLOADS, STREAM]
    parser.add_argument("--workloads", nargs="+", choices=names, default=names)
    parser.add_argument("--peers", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--patience", type=float, default=120.0, help="seconds of a process")
    parser.add_argument("--directory", type=Path, help="where rows are written while they are needed")
    args = parser.parse_args()
    if args.prepare:
        prepare(args.prepare)
        return
    for who in args.peers:
        if not who.startswith("hpcml"):
            print(f"{who} {version_of(who, args.environments)}")
    for name in args.workloads:
        with tempfile.TemporaryDirectory(dir=args.directory) as directory:
            if name == STREAM:
                glm_stream.measure(Path(directory), args.scale, args.runs, args.cores)
            else:
                measure(name, args, Path(directory))


if __name__ == "__main__":
    main()
