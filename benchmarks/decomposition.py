"""Principal components: hpcml and its peers side by side, seconds of a fit and the error of the values.

    python benchmarks/decomposition.py --environments DIR [--rows 50000] [--columns 200] [--components 10]
                                       [--runs 7] [--cores 2] [--patience 120]
    python benchmarks/decomposition.py --stream [--rows 100000] [--columns 2000] [--components 20]

`glm.py --prepare DIR` makes the environments. A fit is a process of its own (for hpcml a rank a core):
it has read the rows, fits a few of them, and then the clock runs for one fit. Contestants take turns; seconds
are the least and the median of the turns, a ratio is the median of ratios over the turns.

``--stream`` fits float32 rows of an HDF5 file that no rank holds by random directions, and prints seconds and
what the fit added to each rank's memory at its peak, in read units of 16 MiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from glm_peers import HOME, launcher, own_environment

OURS = ("hpcml gram", "hpcml tsqr", "hpcml randomized")
PEERS = {
    "scikit-learn covariance_eigh": "sklearn",
    "scikit-learn-intelex": "sklearn",
    "scikit-learn full": "sklearn",
    "scikit-learn randomized": "sklearn",
    "scikit-learn randomized_svd": "sklearn",
    "dask svd_compressed": "dask",
}
PAIRS = (
    ("hpcml gram", ("scikit-learn covariance_eigh", "scikit-learn-intelex"), 2.0),
    (
        "hpcml randomized",
        ("scikit-learn randomized", "scikit-learn randomized_svd", "dask svd_compressed"),
        2.0,
    ),
)
UNIT = 16 << 20


def make_rows(n: int, d: int, k: int, path: Path) -> None:
    """Write rows of k strong directions and noise."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n, k)) @ (rng.normal(size=(k, d)) * np.logspace(0, -1, k)[:, None])
    np.save(path, signal + 0.01 * rng.normal(size=(n, d)) + rng.normal(size=d))


def argv_of(who: str, args: argparse.Namespace, path: Path) -> list[str] | None:
    tail = [str(path), str(args.components), str(args.cores)]
    if who in OURS:
        return [*launcher(args.cores), sys.executable, __file__, "--rank", who.split()[1], *tail[:2]]
    python = args.environments / PEERS[who] / "bin" / "python" if args.environments else None
    if python is None or not python.exists():
        return None
    return [str(python), str(HOME / "run_decomposition.py"), who, *tail]


def run(who: str, args: argparse.Namespace, path: Path) -> dict[str, Any] | None:
    argv = argv_of(who, args, path)
    if argv is None:
        return None
    env = own_environment(1 if who in OURS else args.cores)
    try:
        done = subprocess.run(
            argv, env=env, text=True, capture_output=True, timeout=args.patience, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(f"  {who}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def compete(args: argparse.Namespace, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the fits of those that can run, taken in turns."""
    fits: dict[str, list[dict[str, Any]]] = {}
    for turn in range(args.runs):
        for who in (*OURS, *PEERS):
            if turn and who not in fits:
                continue
            found = run(who, args, path)
            if found is not None:
                fits.setdefault(who, []).append(found)
    return fits


def judge(fits: dict[str, list[dict[str, Any]]], path: Path, k: int) -> None:
    X = np.load(path)
    C = X - X.mean(axis=0)
    exact = np.sqrt(np.linalg.eigvalsh(C.T @ C)[::-1][:k])
    seconds = {who: [fit["seconds"] for fit in found] for who, found in fits.items()}
    for who in sorted(seconds, key=lambda who: statistics.median(seconds[who])):
        error = np.abs(np.array(fits[who][0]["values"]) / exact - 1).max()
        least, middle = min(seconds[who]), statistics.median(seconds[who])
        print(f"  {who:<32}{least:9.3f} s least {middle:9.3f} s median   error {error:8.1e}")
    for ours, peers, goal in PAIRS:
        for peer in (one for one in peers if one in seconds and ours in seconds):
            ratio = statistics.median(a / b for a, b in zip(seconds[peer], seconds[ours], strict=False))
            least = min(seconds[peer]) / min(seconds[ours])
            print(f"  {ours} is {ratio:.2f} x ({least:.2f} x by the least) as fast as {peer} (goal {goal:g})")


def be_rank(method: str, path: str, k: int) -> None:
    """Fit on this rank's rows."""
    from hpcml.algorithms.decomposition.decompose import DecompositionSettings, decompose
    from hpcml.collectives import world
    from hpcml.data import ArrayDataset

    comm = world()
    X = np.load(path, mmap_mode="r")
    first, stop = (len(X) * part // comm.size for part in (comm.rank, comm.rank + 1))
    data = ArrayDataset(np.array(X[first:stop]), comm=comm)
    settings = DecompositionSettings(k, method=method)
    decompose(ArrayDataset(np.array(X[first : first + 1000]), comm=comm), settings)
    comm.allgather(0)
    start = time.perf_counter()
    found = decompose(data, settings)
    seconds = max(comm.allgather(time.perf_counter() - start))
    if comm.rank == 0:
        report({"seconds": seconds, "values": found.singular_values.tolist(), "n_iter": found.n_iter})


def report(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def be_streaming_rank(path: str, k: int) -> None:
    """Fit on rows that stay in the file."""
    from peers.contest import peak_bytes

    from hpcml.algorithms.decomposition.decompose import DecompositionSettings, decompose
    from hpcml.collectives import world
    from hpcml.io.dataset import open_hdf5

    comm = world()
    with open_hdf5(path, x="X", y=None, cache="none", comm=comm) as data:
        np.linalg.qr(np.ones((64, 8)))
        Path("/proc/self/clear_refs").write_text("5")
        before, start = peak_bytes("VmRSS"), time.perf_counter()
        found = decompose(data, DecompositionSettings(k, method="randomized", n_iter=1))
        seconds = max(comm.allgather(time.perf_counter() - start))
        units = comm.allgather((peak_bytes("VmHWM") - before) / UNIT)
    if comm.rank == 0:
        report(
            {
                "seconds": seconds,
                "units": units,
                "passes": found.n_iter + 1,
                "last": found.singular_values[-1],
            }
        )


def stream(args: argparse.Namespace, directory: Path) -> None:
    import h5py

    path, rng = directory / "rows.h5", np.random.default_rng(0)
    mixing = rng.normal(size=(args.components, args.columns)).astype(np.float32)
    with h5py.File(path, "w") as file:
        X = file.create_dataset("X", (args.rows, args.columns), "f4", chunks=(1000, args.columns))
        for start in range(0, args.rows, 10_000):
            n = min(10_000, args.rows - start)
            noise = rng.normal(size=(n, args.columns)).astype(np.float32)
            X[start : start + n] = rng.normal(size=(n, args.components)).astype(np.float32) @ mixing + noise
    argv = [
        *launcher(args.cores),
        sys.executable,
        __file__,
        "--rank",
        "stream",
        str(path),
        str(args.components),
    ]
    done = subprocess.run(argv, env=own_environment(1), text=True, capture_output=True, check=False)
    print(done.stdout.strip() or done.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--rank", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--columns", type=int)
    parser.add_argument("--components", type=int)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--patience", type=float, default=120.0)
    args = parser.parse_args()
    if args.rank:
        method, path, k = args.rank
        be_streaming_rank(path, int(k)) if method == "stream" else be_rank(method, path, int(k))
        return
    sizes = (100_000, 2000, 20) if args.stream else (50_000, 200, 10)
    args.rows, args.columns, args.components = (
        given or default
        for given, default in zip((args.rows, args.columns, args.components), sizes, strict=True)
    )
    print(f"{args.rows:,} x {args.columns}, {args.components} components, {args.cores} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if args.stream:
            stream(args, Path(folder))
            return
        path = Path(folder, "X.npy")
        make_rows(args.rows, args.columns, args.components, path)
        judge(compete(args, path), path, args.components)


if __name__ == "__main__":
    main()
