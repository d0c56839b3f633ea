"""Blocks of rows, the kernels to try, and what they should give, from the formulas alone."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hpcml.algorithms.kernels.choice import available
from hpcml.data import Block

NAMES = available()
COMPILED = [name for name in NAMES if name != "numpy"]
# Around every width of lanes, vectors, panels and register blocks.
WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 48, 64, 100, 129]
SHARDS = np.array([0, 0, 128, 256, 331, 331])
PIECES = np.array([0, 50, 128, 192, 192, 256, 320, 331])
N = 331


def make_block(d, dtype=np.float64, csr=False, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(N, d)) * (rng.random((N, d)) < 0.7)).astype(dtype)
    y = (rng.random(N) < 0.5).astype(float)
    weight = rng.integers(0, 4, N).astype(float) if weighted else None
    return Block(sparse.csr_array(X) if csr else X, y, weight, 0, SHARDS, PIECES)


def dense(block):
    X = block.X.toarray() if sparse.issparse(block.X) else block.X
    return X.astype(np.longdouble)


def naive_sums(block, loss, coef, intercept, columns):
    """The partials in 80-bit numbers, (n_shards, n_sums)."""
    X = dense(block)
    z = X @ coef.astype(np.longdouble) + intercept
    y = np.zeros(N) if block.y is None else block.y
    terms = [part * block.weights for part in loss.terms(z, y)]
    upper = np.triu_indices(columns.size)
    out = []
    for start, stop in zip(block.shards[:-1], block.shards[1:], strict=True):
        rows = slice(start, stop)
        (value, r, h), A = (part[rows] for part in terms), X[rows]
        sums = [[value.sum(), r.sum()], A.T @ r]
        C = A[:, columns]
        out.append(np.concatenate([*sums, [h.sum()], C.T @ h, ((C.T * h) @ C)[upper]]))
    return np.array(out)


def stacked(partials):
    """All partials, a row for each shard."""
    return np.concatenate(list(partials))
