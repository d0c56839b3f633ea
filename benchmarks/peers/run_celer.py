"""celer."""

import warnings

import numpy as np
from celer import Lasso, LogisticRegression
from contest import compete


def prepare(problem, method, tol, threads):
    warnings.simplefilter("ignore")
    if problem.kind == "squared":
        model = Lasso(problem.alpha, tol=tol, fit_intercept=problem.intercept)
    else:
        model = LogisticRegression(problem.C, tol=tol, solver=method, fit_intercept=problem.intercept)
    X = np.asfortranarray(problem.X)

    def fit():
        model.fit(X, problem.y)
        return model.coef_, model.intercept_

    return fit


if __name__ == "__main__":
    compete(prepare)
