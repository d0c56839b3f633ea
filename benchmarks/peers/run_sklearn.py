"""scikit-learn."""

import warnings

import numpy as np
from contest import compete
from sklearn.linear_model import ElasticNet, LogisticRegression, PoissonRegressor


def prepare(problem, method, tol, threads):
    warnings.simplefilter("ignore")
    X = problem.X
    shared = {"tol": tol, "fit_intercept": problem.intercept, "max_iter": 1000}
    if problem.kind == "squared":
        X = np.asfortranarray(X)
        gram = method == "cd_gram"
        model = ElasticNet(problem.alpha, l1_ratio=problem.l1_ratio, precompute=gram, copy_X=False, **shared)
    elif problem.kind == "poisson":
        model = PoissonRegressor(alpha=problem.alpha, solver=method, **shared)
    else:
        model = LogisticRegression(C=problem.C, l1_ratio=problem.l1_ratio, solver=method, **shared)

    def fit():
        model.fit(X, problem.y)
        return model.coef_, model.intercept_

    return fit


if __name__ == "__main__":
    compete(prepare)
