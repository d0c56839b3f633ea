"""What every contestant shares: a workload as it lies on disk, the clock and the answer.

Only NumPy and SciPy are imported, so that it runs in the environment of any peer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

PARTS = ("data", "indices", "indptr")
WARM_ROWS = 4000


class Problem(NamedTuple):
    """Minimise the mean loss plus ``alpha (l1_ratio |w|_1 + (1 - l1_ratio) / 2 |w|^2)``.

    Attributes
    ----------
    kind : {"logistic", "squared", "poisson", "softmax"}
    n : int
        Rows of the whole workload, by which alpha is scaled.
    intercept : bool
        Whether there is one; it is not penalised.
    """

    kind: str
    X: np.ndarray | sparse.csr_matrix
    y: np.ndarray
    n: int
    alpha: float
    l1_ratio: float
    intercept: bool

    @property
    def n_bytes(self) -> int:
        X = self.X
        return sum(getattr(X, part).nbytes for part in PARTS) if sparse.issparse(X) else X.nbytes

    @property
    def C(self) -> float:
        return 1.0 / (self.alpha * self.n)

    def head(self) -> Problem:
        """Return a small problem of the same kind."""
        return self._replace(X=self.X[:WARM_ROWS].copy(), y=self.y[:WARM_ROWS].copy())


class Team:
    """One process; `glm_rank.py` has the one of several ranks."""

    rank, size = 0, 1

    def barrier(self) -> None:
        pass

    def greatest(self, number: float) -> float:
        return number

    def total(self, number: float) -> float:
        return number


def load(directory: Path, rank: int = 0, size: int = 1) -> Problem:
    """Return this rank's rows, copied to memory."""
    facts = json.loads((directory / "facts.json").read_text())
    start, stop = (facts["n"] * part // size for part in (rank, rank + 1))
    y = np.array(np.load(directory / "y.npy", mmap_mode="r")[start:stop])
    if facts.pop("sparse"):
        data, indices, indptr = (np.load(directory / f"{part}.npy", mmap_mode="r") for part in PARTS)
        first, last = indptr[start], indptr[stop]
        cut = (np.array(data[first:last]), np.array(indices[first:last]), indptr[start : stop + 1] - first)
        X = sparse.csr_matrix(cut, shape=(stop - start, facts.pop("d")))
    else:
        X = np.array(np.load(directory / "X.npy", mmap_mode="r")[start:stop])
        facts.pop("d")
    return Problem(X=X, y=y, **facts)


def peak_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def compete(prepare, team: Team | None = None) -> None:
    """Be a contestant: ``runner.py DIRECTORY METHOD TOL THREADS ANSWER``.

    `prepare(problem, method, tol, threads)` brings the rows into the layout that is wanted, which is not
    timed, and returns a function that fits and gives coefficients and intercept. A fit of a few rows comes
    first, for what is compiled or loaded at the first call.
    """
    team = team or Team()
    directory, method, tol, threads, answer = sys.argv[1:]
    settings = (method, float(tol), int(threads))
    problem = load(Path(directory), team.rank, team.size)
    prepare(problem.head(), *settings)()
    fit = prepare(problem, *settings)
    team.barrier()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes("VmRSS")
    start = time.perf_counter()
    coef, intercept = fit()
    seconds = team.greatest(time.perf_counter() - start)
    grown = team.total(float(peak_bytes("VmHWM") - before)) / team.total(float(problem.n_bytes))
    if team.rank == 0:
        k = len(np.unique(problem.y)) if problem.kind == "softmax" else 1
        coef = np.asarray(coef, float).reshape(k, problem.X.shape[1])
        intercept = np.broadcast_to(np.asarray(intercept, float).ravel(), k)
        np.savez(answer, coef=coef, intercept=intercept, seconds=seconds, grown=grown)
