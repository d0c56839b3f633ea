"""The largest singular vectors from products with a few random directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.reference import (
    Reference,
    bounded_sum,
    centered,
    look,
    product_window,
)
from hpcml.algorithms.decomposition.tree import merge_in_tree
from hpcml.algorithms.decomposition.tsqr import joined, shard_factor
from hpcml.algorithms.kernels.rows import pieces
from hpcml.algorithms.reduction import Ballot
from hpcml.data import Block, Dataset, is_csr
from hpcml.data.block import part_of

__all__ = ["LoopState", "Progress", "RandomizedSVD", "Subspace", "last_pass", "residual", "run_randomized"]

Vector = NDArray[np.float64]
_STREAM = 0x7376645F  # apart from the other random numbers of a seed
_SETTLED = 1e-9


class _State(NamedTuple):
    """All that the next pass needs, the same on every rank.

    Attributes
    ----------
    reference : Reference
    basis : (n_features, l) array
        Orthonormal directions.
    sizes : (l,) array
        About the norms of the rows' products with them.
    values : (l,) array
        Estimates of the squared singular values, in falling order; `before` has those of the pass before.
    residual : float
        Largest ``|C v - value v|`` of the wanted directions v of that pass, over the largest value.
    weight : float
    step : (n_features,) array
        What the mean is beyond the centre.
    squares : float
        ``sum s |x - mean|^2``, or of x itself.
    """

    reference: Reference
    basis: NDArray[np.float64]
    sizes: Vector
    values: Vector
    before: Vector
    residual: float
    weight: float
    step: Vector
    squares: float


class LoopState(NamedTuple):
    """All that resuming needs, the same on every rank."""

    n_iter: int
    solver: _State


class Progress(NamedTuple):
    """What a callback is told after each pass.

    Attributes
    ----------
    loop : LoopState
    objective : float
        Share of the sum of squares that the wanted directions are known to hold.
    """

    loop: LoopState
    objective: float

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for a journal. Local."""
        return {"explained": self.objective}

    @property
    def sentence(self) -> str:
        """The same for a reader. Local."""
        return f"share of the squares {self.objective:.6f}"


class Subspace(NamedTuple):
    """Directions that hold the largest singular vectors, the same on every rank.

    Attributes
    ----------
    basis : (n_features, l) array
    weight : float
    mean : (n_features,) array
    squares : float
        ``sum s |x - mean|^2``, or of x itself.
    n_iter : int
    reason : str
        Why the passes ended, a sentence.
    timed : bool
        Whether a time limit cut them.
    loop : LoopState
    """

    basis: NDArray[np.float64]
    weight: float
    mean: Vector
    squares: float
    n_iter: int
    reason: str
    timed: bool
    loop: LoopState


@dataclass(frozen=True)
class RandomizedSVD:
    """Orthogonal iteration ``Q <- qr(sum s z z^T Q)`` from random directions; each step is one pass.

    The rows' side is never kept: a pass takes ``z^T Q`` and turns it back into d x l sums, so it stands for
    two products of the literature, and q power iterations take q + 2 passes in place of 2 q + 2. The start is
    Gaussian and keyed by the seed.

    Parameters
    ----------
    n_components : int
    centered : bool
        About the mean. CSR rows stay sparse: the mean is taken off the sums.
    n_oversamples : int
        Directions beyond those wanted.
    n_iter : int, optional
        Power iterations; None ends them when the estimates of all wanted values have settled to
        1e-9 of the largest, after 7, or 4 where more than a tenth of all components is wanted.
    seed : int
    tol : float, optional
        Without `n_iter`: end where the residual of all wanted directions is at most this, or after `max_iter`
        power iterations, rather than where the estimates have settled.
    max_iter : int

    References
    ----------
    Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53 (2011),
    doi:10.1137/090771806, algorithms 4.4 and 5.1.
    """

    state_type: ClassVar[Any] = _State
    n_components: int
    centered: bool = True
    n_oversamples: int = 10
    n_iter: int | None = None
    seed: int = 0
    tol: float | None = None
    max_iter: int = 100
    name: str = "randomized"

    def init(self, data: Dataset) -> _State:
        """Return the state before the first pass. Collective, two small messages."""
        reference, d = look(data, centers=self.centered), data.n_features
        n = min(self.n_components + self.n_oversamples, d)
        key = np.array([self.seed % 2**64, _STREAM], np.uint64)
        start = np.random.Generator(np.random.Philox(key=key)).standard_normal((d, n))
        sizes = np.full(n, np.linalg.norm(reference.size))
        nothing = np.zeros(n)
        return _State(
            reference, np.linalg.qr(start)[0], sizes, nothing, nothing, np.inf, 0.0, np.zeros(d), 0.0
        )

    def step(self, data: Dataset, state: _State, ballot: Ballot | None = None) -> _State:
        """Return the next state. Collective, one pass and one message of (d + 1) (l + 1) + 1 sums."""
        sums, weight, squares = _products(data, state, ballot)
        step = sums[:, -1] / weight
        about = step if self.centered else np.zeros_like(step)
        W = sums[:, :-1] - weight * np.outer(about, about @ state.basis)
        values, turn = (part[..., ::-1] for part in np.linalg.eigh(_symmetric(state.basis.T @ W)))
        basis, R = np.linalg.qr(W)
        return _State(
            reference=state.reference,
            basis=basis,
            sizes=np.sqrt(np.abs(np.diag(R))),
            values=np.maximum(values, 0.0),
            before=state.values,
            residual=residual(W @ turn, values, state.basis @ turn, self.n_components),
            weight=weight,
            step=step,
            squares=squares - weight * float(about @ about),
        )

    def share(self, state: _State) -> float:
        """Return the share of the squares that the wanted directions hold. Local."""
        return float(state.values[: self.n_components].sum() / state.squares) if state.squares > 0 else 0.0

    def end(self, data: Dataset, loop: LoopState) -> str:
        """Return why the passes end here, or nothing. Local."""
        if self.n_iter is not None:
            return "n_iter was reached" if loop.n_iter > self.n_iter else ""
        if self.tol is not None:
            is_good = loop.n_iter > 0 and loop.solver.residual <= self.tol
            late = "max_iter was reached" if loop.n_iter > self.max_iter else ""
            return f"the residual is at most tol ({self.tol:g})" if is_good else late
        few = self.n_components < 0.1 * min(data.n_samples, data.n_features)
        if loop.n_iter > (7 if few else 4):
            return "the most passes were made"
        values, before = loop.solver.values, loop.solver.before
        change = np.abs(values - before)[: self.n_components].max()
        is_settled = loop.n_iter > 1 and change <= _SETTLED * values[0]
        return "the singular values have settled" if is_settled else ""


def residual(products: NDArray[np.float64], values: Vector, vectors: NDArray[np.float64], k: int) -> float:
    """Return the largest ``|C v - value v|`` of the first k columns v over the largest value. Local.

    Each value is then within that share of the largest one of an eigenvalue of C (Parlett, "The symmetric
    eigenvalue problem", 1998, section 4.5).

    Parameters
    ----------
    products : (n_features, l) array
        ``C v``.
    values : (l,) array
        In falling order.
    vectors : (n_features, l) array
    k : int
    """
    if not values.size or values[0] <= 0:
        return 0.0
    rest = products[:, :k] - vectors[:, :k] * values[:k]
    return float(np.linalg.norm(rest, axis=0).max() / values[0])


def _symmetric(A: NDArray[np.float64]) -> NDArray[np.float64]:
    return (A + A.T) / 2


def run_randomized(
    data: Dataset,
    solver: RandomizedSVD,
    *,
    loop: LoopState | None = None,
    callback: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    ballot: Ballot | None = None,
) -> Subspace:
    """Pass over the rows until the directions are good.

    Collective: two small messages, then one pass and one message a step.

    Parameters
    ----------
    data : Dataset
    solver : RandomizedSVD
    loop : LoopState, optional
        Where an earlier run stood: the answer has the bits of a run that was not interrupted.
    callback : callable
        Told of the start and of each pass.
    stopped : callable
        Says after each pass, from reduced numbers, whether the time limit has come.
    ballot : Ballot, optional
        Its votes go with the messages of the passes.
    """
    loop = loop or LoopState(0, solver.init(data))
    while True:
        callback(Progress(loop, solver.share(loop.solver)))
        timed = loop.n_iter > 0 and stopped()
        reason = "the time limit was reached" if timed else solver.end(data, loop)
        if reason:
            break
        loop = LoopState(loop.n_iter + 1, solver.step(data, loop.solver, ballot))
    state = loop.solver
    mean = state.reference.center + state.step
    return Subspace(state.basis, state.weight, mean, state.squares, loop.n_iter, reason, timed, loop)


def _products(
    data: Dataset, state: _State, ballot: Ballot | None = None, leaves: _Leaves | None = None
) -> tuple[NDArray[np.float64], float, float]:
    """Return ``sum s z [z^T Q, 1]``, ``sum s`` and ``sum s |z|^2`` of ``z = x - c``. Collective, one pass.

    `leaves` takes the factors of my shards in the same pass.
    """
    reference, d, n = state.reference, data.n_features, state.sizes.size

    def terms(blocks: Iterator[Block]) -> Iterator[Vector]:
        if leaves is not None:
            leaves.found.clear()  # a sum may repeat
        for block in blocks:
            for i in range(block.n_shards):
                shard = part_of(block, i)
                yield _of_shard(shard, reference.center, state.basis)[None]
                if leaves is not None:
                    leaves.take(shard)

    root, norm = np.sqrt([reference.weight]), np.array([np.linalg.norm(reference.size)])
    small = [product_window(root, root), product_window(norm, norm)]
    # The sums of the columns have windows of their own: products may be larger than they by any factor.
    columns = [product_window(reference.size, right) for right in (state.sizes, root)]
    window = np.concatenate(columns, axis=1)
    windows = np.concatenate([part.ravel() for part in (window, *small)])
    total = bounded_sum(data, terms, windows, ballot).total
    return total[: d * (n + 1)].reshape(d, n + 1), float(total[-2]), float(total[-1])


def _of_shard(shard: Block, center: Vector, Q: NDArray[np.float64]) -> Vector:
    sums, squares, is_moved = np.zeros((Q.shape[0], Q.shape[1] + 1)), 0.0, bool(center.any())
    for piece in pieces(shard):
        Z = centered(piece.X, center, is_moved)
        Z = Z if Z.dtype == np.float64 else Z.astype(np.float64)
        weight = None if shard.weight is None else shard.weight[piece.rows]
        right = np.column_stack([Z @ Q, np.ones(Z.shape[0])])
        sums += Z.T @ (right if weight is None else right * weight[:, None])
        squares += _squares(Z, weight)
    return np.concatenate([sums.ravel(), [shard.weights.sum(), squares]])


def _squares(Z: Any, weight: Vector | None) -> float:
    values = Z.data if is_csr(Z) else Z.reshape(-1)
    if weight is None:
        return float(values @ values)
    counts = np.diff(Z.indptr) if is_csr(Z) else Z.shape[1]
    return float(np.repeat(weight, counts) @ np.square(values))


@dataclass(frozen=True)
class _Leaves:
    """Triangular factors of the rows' products with the directions, one a shard."""

    state: _State
    step: Vector
    found: list[NDArray[np.float64]] = field(default_factory=list)

    def take(self, shard: Block) -> None:
        """Add the factor of a shard."""
        state = self.state
        rows = _projected(shard, state.reference.center, state.basis, self.step)
        self.found.append(shard_factor(rows, state.sizes.size))


def last_pass(
    data: Dataset, state: _State, *, centers: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the triangular factor of the rows' products with the directions, and ``C Q``.

    Collective: one pass, one message and those of a tree over factors of l columns. The factor, (at most l,
    l), has the singular values to rounding, which products of products would halve; ``C Q``, (n_features, l),
    proves them.

    Parameters
    ----------
    data : Dataset
    state : state of a RandomizedSVD
    centers : bool
        About the mean.
    """
    about = state.step if centers else np.zeros_like(state.step)
    leaves = _Leaves(state, about @ state.basis)
    sums, weight, _ = _products(data, state, leaves=leaves)
    R = merge_in_tree(data, iter(leaves.found), joined, state.sizes.size)
    return R, sums[:, :-1] - weight * np.outer(about, about @ state.basis)


def _projected(
    shard: Block, center: Vector, Q: NDArray[np.float64], step: Vector
) -> Iterator[NDArray[np.float64]]:
    """Yield ``sqrt(s) (Q^T (x - c) - step)`` of each block of a shard."""
    weights, is_moved = shard.weights, bool(center.any())
    for piece in pieces(shard):
        rows = np.asarray(centered(piece.X, center, is_moved) @ Q) - step
        yield rows * np.sqrt(weights[piece.rows])[:, None]
