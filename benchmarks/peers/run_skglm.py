"""skglm; the small fit before the clock starts compiles its solvers."""

import warnings

import numpy as np
from contest import compete
from skglm import GeneralizedLinearEstimator
from skglm.datafits import Logistic, Quadratic
from skglm.penalties import L1
from skglm.solvers import AndersonCD, GramCD, ProxNewton

SOLVERS = {"anderson": AndersonCD, "gram": GramCD, "prox_newton": ProxNewton}
DATAFITS = {"logistic": Logistic, "squared": Quadratic}


def prepare(problem, method, tol, threads):
    warnings.simplefilter("ignore")
    solver = SOLVERS[method](tol=tol, fit_intercept=problem.intercept, max_iter=200)
    datafit = None if method == "gram" else DATAFITS[problem.kind]()
    model = GeneralizedLinearEstimator(datafit, L1(problem.alpha), solver)
    X = np.asfortranarray(problem.X)
    y = 2 * problem.y - 1 if problem.kind == "logistic" else problem.y

    def fit():
        model.fit(X, y)
        return model.coef_, model.intercept_

    return fit


if __name__ == "__main__":
    compete(prepare)
