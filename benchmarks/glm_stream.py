"""A pass over rows that are streamed from HDF5, against computing and reading the same rows apart.

Run by benchmarks/glm.py: the rows of its first workload, contiguous, page cache warm. The pass is that of a
Newton iteration: value, gradient and Hessian.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from glm_peers import launcher, own_environment

GOAL = 1.15
ROWS, COLUMNS = 8_000_000, 15


def write_rows(path: Path, scale: float) -> None:
    """Write X and y, contiguous."""
    rng, n = np.random.default_rng(0), max(int(ROWS * scale), 2000)
    w = rng.normal(size=COLUMNS) / 4
    with h5py.File(path, "w") as file:
        X = file.create_dataset("X", (n, COLUMNS), "f8")
        y = file.create_dataset("y", (n,), "f8")
        for at in range(0, n, 1 << 18):
            rows = rng.standard_normal((min(1 << 18, n - at), COLUMNS))
            X[at : at + len(rows)] = rows
            y[at : at + len(rows)] = rng.random(len(rows)) < 1 / (1 + np.exp(-rows @ w))


def measure(directory: Path, scale: float, runs: int, cores: list[int]) -> None:
    """Print the ratios on each number of ranks."""
    path = directory / "rows.h5"
    write_rows(path, scale)
    for n in cores:
        argv = [*launcher(n), sys.executable, __file__, str(path), str(runs)]
        subprocess.run(argv, env=own_environment(1), check=True)


def preadv(file: h5py.File, names: tuple[str, ...], start: int, stop: int):
    """Return a loop that reads rows of contiguous data sets into one buffer of 2 MiB."""
    handle, buffer = os.open(file.filename, os.O_RDONLY), memoryview(np.ones(2 << 20, np.uint8))
    ranges = []
    for name in names:
        row = file[name].dtype.itemsize * int(np.prod(file[name].shape[1:]))
        offset = file[name].id.get_offset()
        ranges.append((offset + start * row, offset + stop * row))

    def loop():
        for first, last in ranges:
            for at in range(first, last, len(buffer)):
                os.preadv(handle, [buffer[: min(len(buffer), last - at)]], at)

    return loop


def seconds_of(comm, loop) -> float:
    """Return the seconds of the slowest rank; all begin together."""
    comm.allreduce(np.array([0]))
    start = time.perf_counter()
    loop()
    return float(comm.allreduce(np.array([time.perf_counter() - start]), op="max")[0][0])


def passes(comm, path: str):
    """Return loops: streamed, computed in memory, and read."""
    from hpcml.algorithms.linear_model import ModelSettings, make_objective
    from hpcml.algorithms.survey import survey
    from hpcml.io.dataset import open_hdf5

    def newton_pass(cache):
        data = open_hdf5(path, comm=comm, cache=cache)
        settings = ModelSettings("logistic_regression", alpha=1e-6)
        objective, _ = make_objective(data, settings, survey(data, classes=True))
        point = objective.evaluate(objective.first_w, columns=objective.all_columns)
        w = np.full(objective.n_parameters, 0.1)
        return data, lambda: objective.evaluate(w, columns=objective.all_columns, window=point.window)

    data, streamed = newton_pass("none")
    _, computed = newton_pass("memory")
    own = data.partition.rows_of(data.partition.shards_of(comm.rank))
    return streamed, computed, preadv(h5py.File(path, "r", locking=False), ("X", "y"), *own)


def main() -> None:
    from hpcml.collectives import world

    comm, runs = world(), int(sys.argv[2])
    loops = passes(comm, sys.argv[1])
    taken = [[seconds_of(comm, loop) for loop in loops] for _ in range(runs + 1)][1:]
    if comm.rank:
        return
    both = sum if comm.size > 1 else max  # one rank of two cores reads ahead while it computes
    share = statistics.median(streamed / both(apart) for streamed, *apart in taken)
    streamed, computed, read = (statistics.median(column) for column in zip(*taken, strict=True))
    against = "compute + preadv" if comm.size > 1 else "the greater of compute and preadv"
    print(f"out of core, {comm.size} rank{'s' * (comm.size > 1)}:", end=" ")
    print(f"pass {streamed:.3f} s, compute {computed:.3f} s, preadv {read:.3f} s")
    print(f"  a pass takes {share:.2f} x {against} (goal {GOAL}): {'met' if share <= GOAL else 'NOT met'}")


if __name__ == "__main__":
    main()
