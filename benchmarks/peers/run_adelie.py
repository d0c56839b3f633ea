"""adelie."""

import adelie
import numpy as np
from contest import compete

FAMILIES = {"logistic": "binomial", "squared": "gaussian", "poisson": "poisson", "softmax": "multinomial"}


def prepare(problem, method, tol, threads):
    """`method` is the rule of screening."""
    X = adelie.matrix.dense(np.asfortranarray(problem.X), n_threads=threads)
    y = np.asarray(problem.y, problem.X.dtype)
    if problem.kind == "softmax":
        y = np.asfortranarray(np.eye(int(y.max()) + 1, dtype=y.dtype)[y.astype(int)])
    family = getattr(adelie.glm, FAMILIES[problem.kind])

    def fit():
        state = adelie.grpnet(
            X,
            family(y),
            alpha=problem.l1_ratio,
            lmda_path=np.array([problem.alpha]),
            intercept=problem.intercept,
            screen_rule=method,
            tol=tol,
            irls_tol=tol,
            n_threads=threads,
            early_exit=False,
            progress_bar=False,
        )
        coef = state.betas[-1].toarray()
        if problem.kind == "softmax":
            coef = coef.reshape(-1, y.shape[1]).T
        return coef, state.intercepts[-1]

    return fit


if __name__ == "__main__":
    compete(prepare)
