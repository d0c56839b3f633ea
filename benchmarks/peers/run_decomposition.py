"""One fit of principal components by a peer: ``run_decomposition.py WHO X.npy K THREADS``; prints JSON.

Only NumPy and the peer are imported. A fit of a few rows comes first, for what loads late.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def sklearn_fit(solver, k):
    from sklearn.decomposition import PCA

    return lambda X: PCA(k, svd_solver=solver, random_state=0).fit(X).singular_values_


def sklearnex_fit(k):
    from sklearnex.decomposition import PCA

    return lambda X: PCA(k, svd_solver="covariance_eigh").fit(X).singular_values_


def randomized_svd_fit(k, **options):
    from sklearn.utils.extmath import randomized_svd

    return lambda X: randomized_svd(X - X.mean(axis=0), k, random_state=0, **options)[1]


def dask_fit(k, threads):
    import dask
    import dask.array as da

    dask.config.set(scheduler="threads", num_workers=threads)

    def fit(X):
        rows = da.from_array(X, chunks=(10_000, -1))
        return da.linalg.svd_compressed(rows - rows.mean(axis=0), k, n_power_iter=2, seed=0)[1].compute()

    return fit


def main() -> None:
    who, path, k, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    makers = {
        "scikit-learn covariance_eigh": lambda: sklearn_fit("covariance_eigh", k),
        "scikit-learn full": lambda: sklearn_fit("full", k),
        "scikit-learn randomized": lambda: sklearn_fit("randomized", k),
        "scikit-learn randomized_svd": lambda: randomized_svd_fit(k),
        "scikit-learn-intelex": lambda: sklearnex_fit(k),
        "dask svd_compressed": lambda: dask_fit(k, threads),
    }
    X = np.load(path)
    fit = makers[who]()
    fit(X[:1000])
    start = time.perf_counter()
    values = fit(X)
    print(json.dumps({"seconds": time.perf_counter() - start, "values": np.asarray(values).tolist()}))


if __name__ == "__main__":
    main()
