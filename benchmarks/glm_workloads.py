"""The workloads of benchmarks/glm.py: their rows, what each contestant tries, and the goals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers.contest import PARTS, Problem
from scipy import sparse
from scipy.special import expit, logsumexp

Settings = tuple[tuple[str, float], ...]
CHUNK = 1 << 16


class Workload(NamedTuple):
    """`goal`: how many times as fast as the best peer; `settings`: (method, tol) that each one tries."""

    n: int
    d: int
    kind: str
    alpha: str
    l1_ratio: float
    intercept: bool
    goal: float
    settings: Mapping[str, Settings]
    dtype: str = "float64"
    per_row: int = 0


def tried(methods: str, *tols: float) -> Settings:
    return tuple((method, tol) for method in methods.split() for tol in tols)


AUTO = tried("auto", 1e-2, 1e-4, 1e-6)
WORKLOADS = {
    "logistic": Workload(
        8_000_000, 15, "logistic", "1 / n", 0.0, False, 10.0,
        {
            "hpcml": AUTO,
            "hpcml admm": tried("admm", 1e-2, 1e-4, 1e-6),
            "scikit-learn": tried("lbfgs", 1e-3, 1e-4, 1e-5) + tried("newton-cholesky", 1e-4, 1e-6),
            "scikit-learn-intelex": tried("lbfgs", 1e-2, 1e-3, 1e-4),
            "glum": tried("irls-ls lbfgs", 1e-4, 1e-6),
            "snapml": tried("dual", 1e-3, 1e-4),
            "dask-glm": tried("newton lbfgs", 1e-4),
        },
    ),
    "logistic_l1": Workload(
        300_000, 200, "logistic", "0.003", 1.0, False, 1.5,
        {
            "hpcml": AUTO,
            "scikit-learn": tried("saga", 1e-3, 1e-4) + tried("liblinear", 1e-2, 1e-3),
            "glum": tried("irls-cd", 1e-3, 1e-4, 1e-5),
            "adelie": tried("pivot strong", 1e-5, 1e-7, 1e-9),
            "skglm": tried("prox_newton", 1e-3, 1e-4, 1e-5) + tried("anderson", 1e-4),
            "celer": tried("celer-pn", 1e-3, 1e-5),
            "snapml": tried("primal", 1e-3, 1e-4, 1e-5),
        },
    ),
    "logistic_float32": Workload(
        300_000, 500, "logistic", "1 / n", 0.0, False, 4.0,
        {
            "hpcml": AUTO + tried("lbfgs newton_cg", 1e-2, 1e-4, 1e-6),
            "scikit-learn": tried("lbfgs", 1e-4, 1e-5) + tried("newton-cg newton-cholesky", 1e-4),
            "scikit-learn-intelex": tried("lbfgs", 1e-3, 1e-4, 1e-5) + tried("newton-cg", 1e-4),
            "glum": tried("irls-ls lbfgs", 1e-4, 1e-6),
            "snapml": tried("dual", 1e-3, 1e-4),
        },
        dtype="float32",
    ),
    "lasso": Workload(
        1_000_000, 100, "squared", "0.01", 1.0, False, 3.0,
        {
            "hpcml": AUTO,
            "scikit-learn": tried("cd cd_gram", 1e-3, 1e-4, 1e-6),
            "glum": tried("irls-cd", 1e-3, 1e-5),
            "adelie": tried("pivot strong", 1e-5, 1e-7, 1e-9),
            "skglm": tried("anderson gram", 1e-3, 1e-5),
            "celer": tried("celer", 1e-3, 1e-5, 1e-7),
        },
    ),
    "logistic_csr": Workload(
        500_000, 100_000, "logistic", "10 / n", 0.0, False, 1.5,
        {
            "hpcml": AUTO,
            "scikit-learn": tried("lbfgs newton-cg", 1e-4, 1e-6) + tried("saga", 1e-3),
            "scikit-learn-intelex": tried("newton-cg", 1e-4, 1e-6),
            "snapml": tried("dual", 1e-3, 1e-4, 1e-5),
        },
        per_row=40,
    ),
    "poisson": Workload(
        1_000_000, 50, "poisson", "1e-4", 0.0, True, 4.0,
        {
            "hpcml": AUTO,
            "scikit-learn": tried("lbfgs newton-cholesky", 1e-3, 1e-4, 1e-6),
            "glum": tried("irls-ls lbfgs", 1e-3, 1e-4, 1e-6),
        },
    ),
    "softmax": Workload(
        200_000, 200, "softmax", "1 / n", 0.0, True, 4.0,
        {
            "hpcml": AUTO + tried("lbfgs", 1e-2, 1e-4, 1e-6),
            "scikit-learn": tried("lbfgs", 1e-3, 1e-4, 1e-6) + tried("newton-cholesky newton-cg", 1e-4),
            "scikit-learn-intelex": tried("lbfgs", 1e-3, 1e-4, 1e-6),
        },
    ),
}  # fmt: skip
CLASSES = 10


def write_workload(name: str, scale: float, directory: Path) -> None:
    """Write rows of a model that holds: X and y as .npy, and the rest as JSON."""
    workload, rng = WORKLOADS[name], np.random.default_rng(0)
    n = max(int(workload.n * scale), 2000)
    d = max(int(workload.d * scale), 200) if workload.per_row else workload.d
    X = make_csr(rng, n, d, workload.per_row) if workload.per_row else make_dense(rng, n, d, workload)
    y = make_labels(rng, X, workload)
    if workload.per_row:
        for part in PARTS:
            np.save(directory / f"{part}.npy", getattr(X, part))
    else:
        np.save(directory / "X.npy", X)
    np.save(directory / "y.npy", y)
    names = ("kind", "l1_ratio", "intercept")
    facts = {name: getattr(workload, name) for name in names} | {"n": n, "d": d}
    strength, _, over = workload.alpha.partition(" / ")
    alpha = float(strength) / (n if over else 1)
    facts |= {"alpha": alpha, "sparse": bool(workload.per_row)}
    (directory / "facts.json").write_text(json.dumps(facts))


def make_dense(rng, n: int, d: int, workload: Workload) -> np.ndarray:
    """Return normal rows; in float32 columns of different sizes, that share a part of every row."""
    X = rng.standard_normal((n, d), dtype=workload.dtype)
    if workload.dtype == "float32":
        X += 0.5 * rng.standard_normal((n, 1), dtype=workload.dtype)
        X *= rng.permutation(np.logspace(-1, 1, d)).astype(workload.dtype)
    return X


def make_csr(rng, n: int, d: int, per_row: int) -> sparse.csr_matrix:
    """Return rows with `per_row` entries, the first columns more often than the last."""
    indices = (rng.random(n * per_row) ** 2 * d).astype(np.int32)
    indptr = np.arange(n + 1, dtype=np.int32) * per_row
    X = sparse.csr_matrix((rng.standard_normal(n * per_row), indices, indptr), shape=(n, d))
    X.sum_duplicates()
    return X


def make_labels(rng, X, workload: Workload) -> np.ndarray:
    n, d = X.shape
    k = CLASSES if workload.kind == "softmax" else 1
    w = (
        rng.normal(size=(d, k)) * (np.arange(d) < 0.2 * d)[:, None]
        if workload.l1_ratio
        else rng.normal(size=(d, k))
    )
    if not sparse.issparse(X):
        w /= np.sqrt(np.sum((X[:CHUNK].std(axis=0)[:, None] * w) ** 2, axis=0))
    else:
        w /= np.sqrt(workload.per_row)
    z = np.concatenate([X[at : at + CHUNK] @ w for at in range(0, n, CHUNK)])
    if workload.kind == "softmax":
        return np.argmax(2 * z + rng.gumbel(size=z.shape), axis=1).astype(np.float64)
    z = z[:, 0]
    if workload.kind == "logistic":
        return (rng.random(n) < expit(2 * z)).astype(np.float64)
    return (
        rng.poisson(np.exp(0.5 * z)).astype(np.float64)
        if workload.kind == "poisson"
        else z + rng.normal(size=n)
    )


def objective(problem: Problem, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Return F in float64, from (classes, d) coefficients and (classes,) intercepts."""
    total = 0.0
    for at in range(0, problem.n, CHUNK):
        X, y = problem.X[at : at + CHUNK], problem.y[at : at + CHUNK]
        z = (X if sparse.issparse(X) else X.astype(np.float64)) @ coef.T + intercept
        total += float(np.sum(row_losses(problem.kind, z, y)))
    size = problem.l1_ratio * np.abs(coef).sum() + (1 - problem.l1_ratio) / 2 * np.sum(coef**2)
    return total / problem.n + problem.alpha * float(size)


def row_losses(kind: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    if kind == "softmax":
        return logsumexp(z, axis=1) - z[np.arange(len(y)), y.astype(int)]
    z = z[:, 0]
    if kind == "logistic":
        return np.logaddexp(0, z) - y * z
    return np.exp(z) - y * z if kind == "poisson" else 0.5 * (z - y) ** 2
