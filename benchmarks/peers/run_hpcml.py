"""hpcml, started by mpiexec on as many ranks as the others have threads."""

import warnings

import numpy as np
from contest import Team, compete

from hpcml.collectives import world
from hpcml.estimators import Lasso, LogisticRegression, PoissonRegressor


class Ranks(Team):
    def __init__(self):
        self.comm = world()
        self.rank, self.size = self.comm.rank, self.comm.size

    def barrier(self):
        self.comm.allreduce(np.array([0]))

    def greatest(self, number):
        return float(self.comm.allreduce(np.array([number]), op="max")[0][0])

    def total(self, number):
        return float(self.comm.allreduce(np.array([number]))[0][0])


def prepare(problem, method, tol, threads):
    warnings.simplefilter("ignore")
    shared = {"tol": tol, "fit_intercept": problem.intercept, "solver": method, "max_iter": 1000}
    shared["comm"] = "world"
    if problem.kind == "squared":
        model = Lasso(problem.alpha, **shared)
    elif problem.kind == "poisson":
        model = PoissonRegressor(alpha=problem.alpha, **shared)
    else:
        model = LogisticRegression(C=problem.C, l1_ratio=problem.l1_ratio, **shared)

    def fit():
        model.fit(problem.X, problem.y)
        return model.coef_, model.intercept_

    return fit


if __name__ == "__main__":
    compete(prepare, Ranks())
