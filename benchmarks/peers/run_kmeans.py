"""Be a contestant of benchmarks/clustering.py: ``run_kmeans.py WHO DIRECTORY ITERATIONS THREADS ANSWER``.

Reads this process's rows, fits a few of them for what loads late, and then the clock runs for the fit alone.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
WARM_ROWS = 20_000


def scikit_learn(algorithm):
    from sklearn.cluster import KMeans

    def fit(X, centers, iterations, threads):
        model = KMeans(
            len(centers), init=centers, n_init=1, max_iter=iterations, tol=0.0, algorithm=algorithm
        )
        model.fit(X)
        return model.cluster_centers_, model.n_iter_

    return fit


def intelex():
    from sklearnex import patch_sklearn

    patch_sklearn(verbose=False)
    return scikit_learn("lloyd")


def faiss_of():
    import faiss

    def fit(X, centers, iterations, threads):
        faiss.omp_set_num_threads(threads)
        k, d = centers.shape
        model = faiss.Kmeans(d, k, niter=iterations, max_points_per_centroid=len(X), update_index=True)
        model.train(X, init_centroids=centers)
        return model.centroids, iterations

    return fit


def hpcml_of(assignment):
    from hpcml.algorithms.clustering.assignment import Plain
    from hpcml.algorithms.clustering.bounds import Bounds
    from hpcml.algorithms.clustering.lloyd import Lloyd, run_lloyd
    from hpcml.data import ArrayDataset

    def fit(X, centers, iterations, threads):
        data = ArrayDataset(X, None, comm=COMM)
        method = Lloyd(iterations, make_assignment={"plain": Plain, "bounds": Bounds}[assignment])
        result = run_lloyd(data, method, centers[None].astype(float))
        return result.centers, result.n_iter

    return fit


MAKERS = {
    "hpcml": lambda: hpcml_of("bounds"),
    "hpcml plain": lambda: hpcml_of("plain"),
    "scikit-learn": lambda: scikit_learn("lloyd"),
    "scikit-learn elkan": lambda: scikit_learn("elkan"),
    "scikit-learn-intelex": intelex,
    "faiss": faiss_of,
}


def main():
    who, directory, iterations, threads, answer = sys.argv[1:]
    home, fit = Path(directory), MAKERS[who]()
    rank, size = (COMM.rank, COMM.size) if COMM else (0, 1)
    rows = np.load(home / "X.npy", mmap_mode="r")
    X = np.array(rows[len(rows) * rank // size : len(rows) * (rank + 1) // size])
    centers = np.load(home / "centers.npy")
    fit(X[:WARM_ROWS].copy(), centers, 2, int(threads))
    if COMM:
        COMM.allreduce(np.array([0]))
    start, cpu = time.perf_counter(), time.process_time()
    centers, n_iter = fit(X, centers, int(iterations), int(threads))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if COMM:
        seconds = float(COMM.allreduce(np.array([seconds]), op="max")[0][0])
        cpu = float(COMM.allreduce(np.array([cpu]))[0][0])
    if rank == 0:
        np.save(home / "found.npy", np.asarray(centers, float))
        Path(answer).write_text(json.dumps({"seconds": seconds, "cpu": cpu, "n_iter": int(n_iter)}))


COMM = None
if __name__ == "__main__":
    if sys.argv[1].startswith("hpcml"):
        from hpcml.collectives import world

        COMM = world()
    main()
