"""Iterations to a certificate: SGD against L-BFGS, and what a start by local SGD saves.

    .venv/bin/python benchmarks/sgd.py [--rows 400000] [--features 15]

A logistic regression with alpha 1e-4 on rows X (I + c N) for normal X and N. The counts depend on no machine.
"""

import argparse

import numpy as np

from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.linear_model import ModelSettings, make_objective
from hpcml.algorithms.local_sgd import local_sgd
from hpcml.algorithms.solver import Rules, run_solver
from hpcml.algorithms.survey import survey
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset


def make(n, d, c):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    if c:
        X = X @ (np.eye(d) + c * rng.normal(size=(d, d)))
    y = (X @ rng.normal(size=d) * 2 / np.sqrt(d) + rng.logistic(size=n) > 0).astype(float)
    data = ArrayDataset(X, y, comm=SerialCommunicator())
    settings = ModelSettings("logistic_regression", alpha=1e-4)
    return make_objective(data, settings, survey(data, classes=True))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=15)
    given = parser.parse_args()
    print("c    solver    from zero  from local_sgd")
    for c in (0.0, 0.3, 0.5):
        objective = make(given.rows, given.features, c)
        w = local_sgd(objective)
        for name in ("newton", "lbfgs", "nesterov", "gd", "sgd"):
            found = [
                run_solver(objective, make_solver(name), Rules(300, 1e-6), w=start) for start in (None, w)
            ]
            counts = [str(one.n_iter) if one.converged else f"> {one.n_iter}" for one in found]
            print(f"{c:<4} {name:9} {counts[0]:>9}  {counts[1]:>14}", flush=True)


if __name__ == "__main__":
    main()
