"""Snap ML."""

from contest import compete
from snapml import LogisticRegression


def prepare(problem, method, tol, threads):
    assert not problem.intercept, "its intercept is penalised"
    penalty = "l1" if problem.l1_ratio else "l2"
    model = LogisticRegression(
        regularizer=problem.alpha * problem.n,
        penalty=penalty,
        dual=method == "dual",
        tol=tol,
        n_jobs=threads,
        max_iter=10_000,
    )

    def fit():
        model.fit(problem.X, problem.y)
        return model.coef_, 0.0

    return fit


if __name__ == "__main__":
    compete(prepare)
