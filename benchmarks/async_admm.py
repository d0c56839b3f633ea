"""Time to the certified optimum of ADMM in step and of asynchronous ADMM, where ranks are unlike each other.

    mpirun -n 3 .venv/bin/python benchmarks/async_admm.py [--runs 5] [--tol 1e-6] [--trials 0]

Ranks are slowed by sleep for each row they pass over, so that what is measured is waiting, on any machine.
"in step" is asynchronous ADMM with a new consensus only when all have come: its arithmetic, in step.
Figures are medians of runs in turn. With --trials N, it also counts how many of N asynchronous runs with
random delays end certified at the optimum.
"""

import argparse
import statistics
import time

import numpy as np

from hpcml.algorithms.admm import ADMM
from hpcml.algorithms.async_admm import AsyncADMM
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import world
from hpcml.data import ArrayDataset

ROWS, FEATURES, SUBPROBLEMS = 30_000, 20, 24
SECONDS = 2e-6  # a row, of a rank that is not slow: 20 ms for a pass over a third of the rows
SOLVERS = {
    "admm": ADMM(),
    "async_admm": AsyncADMM(),
    "in step": AsyncADMM(min_batch=SUBPROBLEMS, max_staleness=0),
    "newton": NewtonCholesky(),
}


class Slowed:
    """Rows that take `pace(rows)` seconds, and a count of those that were passed over."""

    def __init__(self, data, pace):
        self._data, self._pace, self.passed = data, pace, 0

    def __getattr__(self, name):
        return getattr(self._data, name)

    def blocks(self, shard=None):
        for block in self._data.blocks(shard):
            self.passed += block.n_rows
            time.sleep(self._pace(block.n_rows))
            yield block


def make_rows(comm, shares):
    """Return this rank's rows and labels; shares are of all rows."""
    borders = np.round(np.cumsum([0, *shares]) * ROWS).astype(int)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES))
    X += (
        0.3 * np.linspace(-1, 1, ROWS)[:, None] * rng.standard_normal(FEATURES)
    )  # subproblems are unlike each other
    y = (0.2 * X @ rng.standard_normal(FEATURES) + rng.logistic(size=ROWS) > 0).astype(float)
    mine = slice(borders[comm.rank], borders[comm.rank + 1])
    return X[mine], y[mine]


def scenarios(comm):
    """Yield name, shares of the rows and seconds for rows on this rank."""
    last = comm.rank == comm.size - 1
    even = [1 / comm.size] * comm.size
    rng = np.random.default_rng([7, comm.rank])
    yield "all alike", even, lambda n: SECONDS * n
    yield "one 4 times slower", even, lambda n: (4 if last else 1) * SECONDS * n
    others = [0.4 / max(comm.size - 1, 1)] * (comm.size - 1)
    yield "one has 60 % of the rows", [*others, 1 - sum(others)], lambda n: SECONDS * n
    yield "random, mean as above", even, lambda n: rng.exponential(SECONDS * n)
    yield (
        "stalls of 50 ms, one in 50",
        even,
        lambda n: SECONDS * n + 0.05 * (rng.random(n // 2500 + 1) < 0.02).sum(),
    )


def make_problem(comm, shares, pace):
    X, y = make_rows(comm, shares)
    data = ArrayDataset(X, y, comm=comm, runs=SUBPROBLEMS)
    settings = ModelSettings("logistic_regression", alpha=1e-4)
    objective, _ = make_objective(data, settings, survey(data, classes=True))
    slowed = Slowed(data, pace)
    return type(objective)(**{**vars(objective), "data": slowed}), slowed


def timed(comm, objective, slowed, solver, tol):
    """Return the seconds of a fit, and how often the last rank passed over its rows."""
    slowed.passed = 0
    comm.allreduce(np.ones(1))
    begin = time.perf_counter()
    result = run_solver(objective, solver, Rules(500, tol))
    comm.allreduce(np.ones(1))
    seconds = time.perf_counter() - begin
    assert result.converged, (solver.name, result.reason, result.certificate)
    mine = sum(block.n_rows for block in slowed._data.blocks())
    return seconds, comm.allgather(slowed.passed / max(mine, 1))[-1]


def show(comm, cells):
    if comm.rank == 0:
        print("".join(f"{cell:<27}" if i == 0 else f"{cell:>17}" for i, cell in enumerate(cells)), flush=True)


def compare(comm, args):
    """Print a line for each scenario: seconds, passes of the last rank over its rows, and a ratio."""
    show(comm, ["scenario", *(f"{name} (s)" for name in SOLVERS), "admm / async", "passes"])
    for name, shares, pace in scenarios(comm):
        objective, slowed = make_problem(comm, shares, pace)
        found = {solver: [] for solver in SOLVERS}
        for _ in range(args.runs):
            for solver in SOLVERS:
                found[solver].append(timed(comm, objective, slowed, SOLVERS[solver], args.tol))
        seconds = {solver: statistics.median(one[0] for one in runs) for solver, runs in found.items()}
        passes = ", ".join(f"{statistics.median(one[1] for one in runs):.1f}" for runs in found.values())
        ratio = seconds["admm"] / seconds["async_admm"]
        show(comm, [name, *(f"{one:.3f}" for one in seconds.values()), f"{ratio:.1f}", f"   {passes}"])


def reliability(comm, args):
    """Return how many of so many asynchronous runs with random delays end certified at the optimum."""
    good = 0
    for trial in range(args.trials):
        rng = np.random.default_rng([trial, comm.rank])
        objective, _ = make_problem(
            comm, [1 / comm.size] * comm.size, lambda n, rng=rng: rng.pareto(1.5) * SECONDS * n
        )
        solver = AsyncADMM(min_batch=(1, 4, 0.5)[trial % 3], max_staleness=trial % 5)
        result = run_solver(objective, solver, Rules(100, 1e-8))
        best = run_solver(objective, NewtonCholesky(), Rules(100, 1e-12))
        good += result.converged and abs(result.objective - best.objective) <= 1e-8 * best.objective
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--trials", type=int, default=0)
    args = parser.parse_args()
    comm = world()
    if args.runs:
        compare(comm, args)
    if args.trials:
        good = reliability(comm, args)
        show(
            comm,
            [f"certified at the optimum with random delays: {good} of {args.trials} on {comm.size} ranks"],
        )


main()
