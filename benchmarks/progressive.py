"""Passes over the rows with and without a start on samples. Prints a table; about a minute."""

from __future__ import annotations

import numpy as np

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.progressive import warm_start
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset

SIZES = ((400_000, 15), (100_000, 60))
SOLVERS = ("newton", "newton_cg", "lbfgs")
RULES = Rules(500, 1e-6)


class CountingRows(ArrayDataset):
    """Rows in memory that know how many of them were read."""

    n_read = 0

    def blocks(self, shard=None):
        for block in super().blocks(shard):
            self.n_read += block.n_rows
            yield block

    def passes(self):
        """Return the passes since the last call."""
        passes, self.n_read = self.n_read / self.n_samples, 0
        return passes


def rows(n, d, correlated):
    """Return rows of a logistic model, with columns that are independent or mixed at random."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    X = X @ rng.normal(size=(d, d)) if correlated else X
    X /= X.std(axis=0)
    z = X @ (rng.normal(size=d) * np.exp(-3 * np.arange(d) / d))
    return X, (2 * z / z.std() - 1 + rng.logistic(size=n) > 0).astype(float)


def measure(n, d, correlated):
    """Print a line for each solver."""
    data = CountingRows(*rows(n, d, correlated), comm=SerialCommunicator())
    settings = ModelSettings("logistic_regression", alpha=1e-4, with_mean=True, with_std=True)
    objective, _ = make_objective(data, settings, survey(data, classes=True))
    for name in SOLVERS:
        solver = make_solver(name)
        data.passes()
        cold = run_solver(objective, solver, RULES)
        without = data.passes()
        warm = warm_start(objective, solver, RULES, wanted=True)
        hot = run_solver(objective, solver, RULES, loop=warm.loop)
        kind = "correlated" if correlated else "independent"
        print(
            f"{n:>8,} x {d:<4} {kind:12} {name:10} {without:6.1f} passes, {cold.n_iter:3} iterations;"
            f" with samples {data.passes():6.1f}, {hot.n_iter:3}"
        )


if __name__ == "__main__":
    for n, d in SIZES:
        for correlated in (False, True):
            measure(n, d, correlated)
