"""k-means: hpcml and its peers side by side, from the same centres.

    python benchmarks/clustering.py --environments DIR [--rows 1000000] [--columns 32] [--clusters 100]
                                    [--iterations 20] [--spreads 3 1] [--runs 3] [--cores 2] [--patience 300]
    python benchmarks/clustering.py --pass [--rows 200000] ...

`glm.py --prepare DIR` makes the environments. A fit is a process of its own (for hpcml a rank a core), and
the clock runs for the fit alone. Contestants take turns; seconds are the least and the median of the turns, a
ratio is the median of ratios over the turns, and CPU seconds, of all ranks or threads, are the least. The
inertia is computed here, in double precision, from the centres that came back. Many iterations
(--iterations 300) go on to the end. Clusters have unit variance, and centres that are drawn with the standard
deviation `spread`: with 3 they are apart, with 1 and less they overlap.

``--pass`` prints the time of a row in a first pass and in later ones with bounds, on one core, and the share
of the rate of a square product in single precision that the distances of the first pass reach.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from glm_peers import HOME, launcher, own_environment, run_within
from threadpoolctl import threadpool_limits

CONTESTANTS = {
    "hpcml": None,
    "hpcml plain": None,
    "scikit-learn": "sklearn",
    "scikit-learn elkan": "sklearn",
    "scikit-learn-intelex": "sklearn",
    "faiss": "faiss",
}
SQUARE = 1500


def make_rows(args: argparse.Namespace, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in float32 and some of them as the first centres."""
    rng = np.random.default_rng(0)
    true = spread * rng.normal(size=(args.clusters, args.columns))
    X = true[rng.integers(0, args.clusters, args.rows)] + rng.normal(size=(args.rows, args.columns))
    X = X.astype(np.float32)
    return X, X[rng.choice(args.rows, args.clusters, replace=False)]


def inertia_of(X: np.ndarray, centers: np.ndarray) -> float:
    from hpcml.algorithms.clustering.assignment import Plain
    from hpcml.collectives import SerialCommunicator
    from hpcml.data import ArrayDataset

    blocks = ArrayDataset(X, None, comm=SerialCommunicator()).blocks()
    return sum(float(sums[:, -1].sum()) for block in blocks for sums in Plain().sums(block, centers))


def fit(who: str, home: Path, args: argparse.Namespace) -> dict[str, float] | str:
    """Return what a contestant answers, or why it does not."""
    environment, ours = CONTESTANTS[who], who.startswith("hpcml")
    python = (
        sys.executable
        if environment is None
        else str(Path(args.environments or "", environment, "bin/python"))
    )
    if not Path(python).exists():
        return "not installed"
    answer = home / "answer.json"
    answer.unlink(missing_ok=True)
    tail = [who, str(home), str(args.iterations), str(args.cores), str(answer)]
    argv = [*launcher(args.cores) * ours, python, str(HOME / "run_kmeans.py"), *tail]
    failed = run_within(argv, own_environment(1 if ours else args.cores), args.patience)
    return json.loads(answer.read_text()) if answer.exists() else failed


def race(args: argparse.Namespace, spread: float) -> None:
    seconds: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        home = Path(directory)
        X, centers = make_rows(args, spread)
        np.save(home / "X.npy", X)
        np.save(home / "centers.npy", centers)
        for _ in range(args.runs):
            for who in args.peers:
                found = fit(who, home, args) if who not in notes or who in seconds else notes[who]
                if isinstance(found, str):
                    notes[who] = found
                    continue
                seconds.setdefault(who, []).append(found["seconds"])
                cpu[who] = min(found["cpu"], cpu.get(who, np.inf))
                inertia = inertia_of(X, np.load(home / "found.npy"))
                notes[who] = f"CPU {cpu[who]:.2f} s, {found['n_iter']} iterations, inertia {inertia:.8g}"
    shape = f"{args.rows:,} x {args.columns} float32, {args.clusters} centres, spread {spread:g}"
    print(f"{shape}, {args.cores} cores")
    for who in args.peers:
        print(f"  {who:<22}{figures(who, seconds)}{notes[who]}", flush=True)


def figures(who: str, seconds: dict[str, list[float]]) -> str:
    if who not in seconds:
        return "not available: "
    ours, theirs = seconds.get("hpcml", []), seconds[who]
    ratio = (
        statistics.median(b / a for a, b in zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else 0
    )
    return f"{min(theirs):8.3f} s least {statistics.median(theirs):8.3f} s median  x{ratio:5.2f}  "


def least(call, runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def passes(args: argparse.Namespace, spread: float) -> None:
    from hpcml.algorithms.clustering.assignment import Plain
    from hpcml.algorithms.clustering.bounds import Bounds
    from hpcml.collectives import SerialCommunicator
    from hpcml.data import ArrayDataset

    X, first = make_rows(args, spread)
    (block,) = ArrayDataset(X, None, comm=SerialCommunicator()).blocks()
    square = np.ones((SQUARE, SQUARE), np.float32)
    n, k, d = args.rows, args.clusters, args.columns
    plain, product = np.inf, np.inf
    bounded = np.full(args.iterations, np.inf)
    for _ in range(args.runs):
        with threadpool_limits(1):
            product = min(product, least(lambda: square @ square, 5))
        centers, bounds = first.astype(float), Bounds()
        plain = min(plain, least(lambda centers=centers: list(Plain().sums(block, centers)), 5))
        for i in range(args.iterations):
            start = time.perf_counter()
            partials = list(bounds.sums(block, centers))
            bounded[i] = min(bounded[i], time.perf_counter() - start)
            total = sum(part.sum(axis=0) for part in partials)
            size = total[k * d : -1, None]
            centers = np.where(size > 0, total[: k * d].reshape(k, d) / np.maximum(size, 1), centers)
    rate, peak = 2 * n * k * d / plain / 1e9, 2 * SQUARE**3 / product / 1e9
    print(f"{n:,} x {d} float32, {k} centres, spread {spread:g}, 1 core")
    print(f"  first pass {plain / n * 1e9:.0f} ns a row: {rate:.1f} of {peak:.1f} GFLOP/s, {rate / peak:.0%}")
    print("  with bounds, ns a row: " + " ".join(f"{t / n * 1e9:.0f}" for t in bounded))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--environments", type=Path)
    parser.add_argument(
        "--directory", type=Path, help="for the rows; the system's for temporary files if not given"
    )
    for name, value in (("rows", 1_000_000), ("columns", 32), ("clusters", 100), ("iterations", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--spreads", type=float, nargs="+", default=[3.0, 1.0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--patience", type=float, default=300.0)
    parser.add_argument("--peers", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--pass", dest="is_pass", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    for spread in args.spreads:
        (passes if args.is_pass else race)(args, spread)


if __name__ == "__main__":
    main()
