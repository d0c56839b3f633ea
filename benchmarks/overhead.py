"""Microseconds of an iteration beyond the kernel and the reduction, on one process at 1,000 rows x 15.

    python benchmarks/overhead.py

CPU seconds of this thread. `all` is an iteration of run_solver, the fastest tenth; `kernel` the compiled pass
of its evaluation, `sum` the reproducible reduction of its partials; the rest is Python and bookkeeping.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.kernels.passes import n_sums, shard_sums
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import ArrayDataset

ROWS, FEATURES = 1000, 15
ITERATIONS, REPEATS = 100, 25


def seconds(calls: int, *each: Callable[[], object]) -> np.ndarray:
    """Return the least CPU seconds of one call, the callables in turn."""
    best = np.full(len(each), np.inf)
    for _ in range(REPEATS):
        for i, call in enumerate(each):
            start = time.thread_time()
            for _ in range(calls):
                call()
            best[i] = min(best[i], (time.thread_time() - start) / calls)
    return best


def logistic() -> Objective:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES)) * np.logspace(0, 2, FEATURES)
    y = (X @ (rng.normal(size=FEATURES) / X.std(axis=0)) + rng.logistic(size=ROWS) > 0).astype(float)
    data = ArrayDataset(X, y, comm=SerialCommunicator())
    settings = ModelSettings("logistic_regression", alpha=1e-8)
    return make_objective(data, settings, survey(data, classes=True))[0]


def of_solver(name: str, objective: Objective) -> float:
    """Return the seconds of an iteration."""
    times: list[float] = []
    for _ in range(REPEATS):
        ticks: list[float] = []
        rules = Rules(max_iter=ITERATIONS, tol=1e-300)
        run_solver(objective, make_solver(name), rules, callback=partial(_tick, ticks))
        times.append(float(np.quantile(np.diff(ticks), 0.1)))
    return min(times)


def _tick(ticks: list[float], _: object) -> None:
    ticks.append(time.thread_time())


def main() -> None:
    objective = logistic()
    block = next(objective.data.blocks())
    w, n = np.zeros(FEATURES), n_sums(FEATURES, None)
    partials = list(shard_sums(block, objective.loss, w, 0.0))
    window = reduce_partials(objective.data.comm, lambda: partials, n).window
    kernel, total = seconds(
        10,
        lambda: list(shard_sums(block, objective.loss, w, 0.0)),
        lambda: reduce_partials(objective.data.comm, lambda: partials, n, window, (1, 1)),
    )
    print("solver     all  kernel  sum  rest   (us)")
    for name in ("gd", "lbfgs"):
        of_all = of_solver(name, objective)
        parts = np.array([of_all, kernel, total, of_all - kernel - total]) * 1e6
        print(f"{name:8} {parts[0]:5.0f} {parts[1]:7.0f} {parts[2]:4.0f} {parts[3]:5.0f}")


if __name__ == "__main__":
    main()
