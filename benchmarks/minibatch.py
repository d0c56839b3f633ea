"""Mini-batch k-means: seconds to within 1 % of the inertia of 20 iterations of our own Lloyd's.

    .venv/bin/python benchmarks/minibatch.py [--rows 1000000] [--repeats 3]

Rows of 32 features in float32 around 100 centres that overlap, that lie apart, or without any; all methods
begin at the same centres. Each way is timed in turn; the least seconds are printed, and what the inertia is
above Lloyd's.
"""

import argparse
import time

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from hpcml.algorithms.clustering.kmeans import KMeansSettings, fit_kmeans
from hpcml.algorithms.clustering.metrics import inertia
from hpcml.algorithms.clustering.mini_batch import MiniBatch, run_mini_batch, start_mini_batch
from hpcml.algorithms.clustering.starts import Start, find_starts
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset

K, D, SPREADS = 100, 32, {"overlapping": 1.0, "apart": 8.0, "none": 0.0}


def make(n, spread):
    rng = np.random.default_rng(0)
    centers = spread * rng.normal(size=(K, D))
    X = (centers[rng.integers(0, K, n)] + rng.normal(size=(n, D))).astype(np.float32)
    return X, ArrayDataset(X, comm=SerialCommunicator())


def lloyd(data, start):
    """Twenty iterations as `KMeans` does them."""
    return fit_kmeans(data, KMeansSettings(Start(K), 20, 0.0), centers=start, finite=True).centers


def walk(epochs):
    def fitted(data, start):
        method = MiniBatch(max_epochs=epochs)
        return run_mini_batch(data, method, start_mini_batch(start)).centers

    return fitted


def twin(batch, epochs):
    def fitted(data, start):
        X = next(data.blocks()).X
        model = MiniBatchKMeans(K, init=start, n_init=1, batch_size=batch, max_iter=epochs, random_state=0)
        return model.fit(X).cluster_centers_

    return fitted


WAYS = {
    "our Lloyd's, 20 iterations": lloyd,
    "our mini-batches, 1 epoch": walk(1),
    "our mini-batches, 2 epochs": walk(2),
    "our mini-batches, to the end": walk(100),
    "scikit-learn, batches of 16,384, 1 epoch": twin(16_384, 1),
    "scikit-learn, batches of 1,024, 2 epochs": twin(1024, 2),
}


def measure(data, start, repeats):
    """Return (seconds, inertia) by way."""
    found = {}
    for _ in range(repeats):
        for name, way in WAYS.items():
            begin = time.perf_counter()
            with threadpool_limits(1, user_api="blas"):
                centers = way(data, start)
            seconds = time.perf_counter() - begin
            known = found.get(name)
            if known is None:
                found[name] = seconds, inertia(data, np.asarray(centers, np.float64))
            else:
                found[name] = min(known[0], seconds), known[1]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for name, spread in SPREADS.items():
        _, data = make(given.rows, spread)
        (start,) = find_starts(data, Start(K, "k-means++"))
        found = measure(data, start, given.repeats)
        seconds, least = found["our Lloyd's, 20 iterations"]
        print(f"clusters: {name}; the start is {inertia(data, start) / least - 1:.2%} above Lloyd's")
        for way, (took, at_end) in found.items():
            print(f"  {way:43} {took:8.2f} s  {took / seconds:6.2f}  {at_end / least - 1:+8.2%}", flush=True)


if __name__ == "__main__":
    main()
