"""Microseconds of an iteration beyond the kernel and the reduction, on one process at 1,000 rows x 15.

    python benchmarks/overhead.py

CPU seconds of this thread, medians over iterations, the least of several runs. `sum` is the time inside the
reproducible reduction, which makes the compiled pass over the rows; the rest is Python and bookkeeping.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from hpcml.algorithms import reduction
from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator
from hpcml.collectives.reproducible import Reduced, reduce_partials
from hpcml.data import ArrayDataset

ROWS, FEATURES = 1000, 15
ITERATIONS, REPEATS = 60, 25

inside = [0.0]


def timed_reduction(*args: object, **named: object) -> Reduced:
    start = time.thread_time()
    reduced = reduce_partials(*args, **named)
    inside[0] += time.thread_time() - start
    return reduced


def logistic() -> Objective:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES)) * np.logspace(0, 2, FEATURES)
    y = (X @ (rng.normal(size=FEATURES) / X.std(axis=0)) + rng.logistic(size=ROWS) > 0).astype(float)
    data = ArrayDataset(X, y, comm=SerialCommunicator())
    settings = ModelSettings("logistic_regression", alpha=1e-8)
    return make_objective(data, settings, survey(data, classes=True))[0]


def tick(ticks: list[tuple[float, float]], _: object) -> None:
    ticks.append((time.thread_time(), inside[0]))


def of_solver(name: str, objective: Objective) -> np.ndarray:
    """Return the microseconds of an iteration, and of its reductions."""
    runs = []
    for _ in range(REPEATS):
        ticks: list[tuple[float, float]] = []
        rules = Rules(max_iter=ITERATIONS, tol=1e-300)
        run_solver(objective, make_solver(name), rules, callback=partial(tick, ticks))
        whole, within = np.diff(ticks, axis=0).T
        runs.append((np.median(whole - within), np.median(within)))
    rest, within = np.min(runs, axis=0)
    return np.array([rest + within, within, rest]) * 1e6


def main() -> None:
    reduction.reduce_partials = timed_reduction
    objective = logistic()
    print("solver     all   sum  rest   (us)")
    for name in ("gd", "lbfgs"):
        print(f"{name:8}" + "".join(f"{part:6.0f}" for part in of_solver(name, objective)))


if __name__ == "__main__":
    main()
