"""dask-glm; its Newton method has no penalty, which the gap then shows."""

import dask
import dask.array as da
from contest import compete
from dask_glm import algorithms


def prepare(problem, method, tol, threads):
    assert not problem.intercept
    dask.config.set(scheduler="threads", num_workers=threads)
    rows = -(-len(problem.y) // (4 * threads))
    X, y = da.from_array(problem.X, chunks=(rows, -1)), da.from_array(problem.y, chunks=rows)
    own = {"tol": tol} if method != "admm" else {"abstol": tol, "reltol": 100 * tol}
    if method != "newton":
        own |= {"regularizer": "l2", "lamduh": problem.alpha * problem.n}

    def fit():
        return getattr(algorithms, method)(X, y, max_iter=500, **own), 0.0

    return fit


if __name__ == "__main__":
    compete(prepare)
