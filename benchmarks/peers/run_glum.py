"""glum."""

import warnings

import numpy as np
from contest import compete
from glum import GeneralizedLinearRegressor

FAMILIES = {"logistic": "binomial", "squared": "normal", "poisson": "poisson"}


def prepare(problem, method, tol, threads):
    warnings.simplefilter("ignore")
    X = problem.X if not isinstance(problem.X, np.ndarray) else np.asfortranarray(problem.X)
    model = GeneralizedLinearRegressor(
        alpha=problem.alpha,
        l1_ratio=problem.l1_ratio,
        family=FAMILIES[problem.kind],
        solver=method,
        gradient_tol=tol,
        fit_intercept=problem.intercept,
        copy_X=False,
        max_iter=1000,
    )

    def fit():
        model.fit(X, problem.y.astype(X.dtype))
        return model.coef_, model.intercept_

    return fit


if __name__ == "__main__":
    compete(prepare)
