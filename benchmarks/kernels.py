"""Rates of the kernels on one core, next to a plain C read of the same array and next to dsyrk.

    HPCML_KERNELS=auto python benchmarks/kernels.py [MiB of X, 96 unless told]

CPU seconds of this thread, medians; every kernel is timed next to its yardstick, and the ratio is the
median of ratios, since other programs slow both alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.linalg.blas import dsyrk
from threadpoolctl import threadpool_limits

from hpcml.algorithms.kernels.choice import available, chosen, compiled
from hpcml.algorithms.kernels.passes import shard_sums
from hpcml.algorithms.losses import Logistic
from hpcml.data import make_block
from hpcml.data.partition import Source, make_partition

REPEATS = 21
WIDTHS = (15, 100, 500)
SYRK = 1500


def seconds(*calls: Callable[[], object]) -> np.ndarray:
    """Return CPU seconds, (REPEATS, calls), the calls in turn."""

    def once(call: Callable[[], object]) -> float:
        start = time.thread_time()
        call()
        return time.thread_time() - start

    for call in calls:
        call()
    return np.array([[once(call) for call in calls] for _ in range(REPEATS)])


def rows(mib: int, d: int, dtype: type, shard_bytes: int | None = None):
    n = (mib << 20) // (d * np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=dtype)
    partition = make_partition(Source(n, d, X.itemsize * d), 1, shard_bytes=shard_bytes)
    return make_block(X, (rng.random(n) < 0.5).astype(float), None, range(partition.n_shards), partition)


def measure(mib: int, d: int, dtype: type) -> str:
    block = rows(mib, d, dtype)
    part = rows(8, d, dtype, 8 << 20)  # a shard: its matrix is written once
    w = np.random.default_rng(1).normal(size=d) / np.sqrt(d)
    A = np.asfortranarray(np.random.default_rng(2).random((SYRK, SYRK)))
    reader = available()[0]
    pass_times = seconds(
        lambda: compiled().read(reader, block.X),
        lambda: list(shard_sums(block, Logistic(), w, 0.1)),
    )
    newton_times = seconds(
        lambda: dsyrk(1.0, A),
        lambda: list(shard_sums(part, Logistic(), w, 0.1, columns=np.arange(d))),
    )
    read, gradient = block.X.nbytes / np.median(pass_times, axis=0) / 1e9
    peak, newton = np.array([SYRK**3, part.n_rows * d * d]) / np.median(newton_times, axis=0) / 1e9
    of_read = np.median(pass_times[:, 0] / pass_times[:, 1])
    of_peak = np.median(newton_times[:, 0] / newton_times[:, 1]) * part.n_rows * d * d / SYRK**3
    name = np.dtype(dtype).name
    return (
        f"{d:4} {name}  {read:6.1f} {gradient:6.1f} {of_read:6.0%}   {peak:6.1f} {newton:6.1f} {of_peak:6.0%}"
    )


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    print(f"kernels: {chosen()}")
    print("   d dtype      read   v+g  ratio    dsyrk Newton  ratio   (GB/s of X; GFLOP/s, n d^2 counted)")
    with threadpool_limits(1):
        for d in WIDTHS:
            for dtype in (np.float64, np.float32):
                print(measure(mib, d, dtype), flush=True)


if __name__ == "__main__":
    main()
