"""Lloyd's iteration for k-means: each row to its nearest centre, each centre to the mean of its rows.

Every pass is one reproducible sum of ``k (d + 1) + 1`` numbers a start. The state always holds centres
together with their own sizes and inertia, so what is returned belongs to the centres that are returned.

References
----------
Lloyd, "Least squares quantization in PCM", IEEE Trans. Information Theory 28 (1982),
doi:10.1109/TIT.1982.1056489.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.assignment import Assignment, Plain, sums_of_all
from hpcml.algorithms.clustering.empty import refill
from hpcml.algorithms.kernels.nearest import n_cluster_sums
from hpcml.algorithms.reduction import Ballot, reduce_blocks
from hpcml.data import Block, Dataset

__all__ = ["Lloyd", "Loop", "Progress", "Result", "Runs", "run_lloyd"]

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Lloyd:
    """When to stop, and how rows find their centres.

    Parameters
    ----------
    max_iter : int
    threshold : float
        On the squared distance that all centres together moved in an iteration, in squared units of X. At 0
        a start ends where no row changes its centre.
    stopped : callable
        Says after each iteration, from reduced numbers, whether the time limit has come.
    make_assignment : callable
        Makes the way to nearest centres for a start.
    """

    max_iter: int = 300
    threshold: float = 0.0
    stopped: Callable[[], bool] = field(default=lambda: False)
    make_assignment: Callable[[], Assignment] = Plain


class Runs(NamedTuple):
    """Where each of r starts stands.

    Attributes
    ----------
    centers, following : (r, k, n_features) array
        Centres, and the means of the rows that are nearest to them.
    sizes : (r, k) array
        Sums of the weights of these rows.
    inertia : (r,) array
        ``sum s |x - c|^2`` over rows and their nearest centres.
    shift : (r,) array
        Squared distance that the centres moved in the last iteration, or would have.
    n_iter : (r,) array of int64
    ended : (r,) array of bool
        Whether a start is done: then nothing of it changes.
    window : (r, k (n_features + 1) + 1) array of int64
        Of the reproducible sum.
    """

    centers: Vector
    following: Vector
    sizes: Vector
    inertia: Vector
    shift: Vector
    n_iter: NDArray[np.int64]
    ended: NDArray[np.bool_]
    window: NDArray[np.int64]


class Loop(NamedTuple):
    """All that resuming needs, the same on every process."""

    n_iter: int
    threshold: float
    runs: Runs


class Progress(NamedTuple):
    """What a callback is told after each iteration.

    Attributes
    ----------
    loop : Loop
    objective : float
        The least inertia of a start.
    n_active : int
        Starts that are not done.
    shift : float
        Squared, of the start of the least inertia.
    """

    loop: Loop
    objective: float
    n_active: int
    shift: float

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for a journal. Local."""
        return {"inertia": self.objective, "squared_shift": self.shift, "n_active": self.n_active}

    @property
    def sentence(self) -> str:
        """The same for a reader. Local."""
        return f"inertia {self.objective:.8g}   squared shift {self.shift:.1e}"


class Result(NamedTuple):
    """The best of the starts: that of the least inertia, the first of equals.

    Attributes
    ----------
    centers : (k, n_features) array
    inertia : float
        At these centres.
    sizes : (k,) array
        Sums of the weights of their rows.
    n_iter : int
        Of this start.
    converged : bool
        The centres moved by no more than the threshold allows, or to no less inertia.
    reason : str
        Why this start ended, a sentence.
    start : int
        Which one it is.
    timed : bool
        Whether a time limit cut the run: then the bits are not promised.
    loop : Loop
    """

    centers: Vector
    inertia: float
    sizes: Vector
    n_iter: int
    converged: bool
    reason: str
    start: int
    timed: bool
    loop: Loop


def run_lloyd(
    data: Dataset,
    method: Lloyd,
    centers: Vector | None = None,
    *,
    loop: Loop | None = None,
    callback: Callable[[Progress], None] = lambda progress: None,
    ballot: Ballot | None = None,
) -> Result:
    """Move centres until they stay, from several starts at once, and return the best of them.

    Collective: a pass and a message an iteration, whatever the number of starts; three messages and a pass
    more where a centre is empty. A start whose rows all keep their centres ends without another pass.

    Parameters
    ----------
    data : Dataset
    method : Lloyd
    centers : (r, k, n_features) array
        r starts; not needed with a loop.
    loop : Loop, optional
        Where an earlier run stood: the answer has the bits of a run that was not interrupted.
    callback : callable
        Told of the starts and of each iteration.
    ballot : Ballot, optional
        Its votes go with the messages.
    """
    if loop is None:
        assert centers is not None, "centres to start from, or a loop to go on with"
        passes = _Passes(data, [method.make_assignment() for _ in centers], ballot)
        loop = Loop(0, method.threshold, _begin(passes, np.array(centers, np.float64)))
    else:
        passes = _Passes(data, [method.make_assignment() for _ in loop.runs.inertia], ballot)
    while True:
        progress = _progress(loop)
        callback(progress)
        late = loop.n_iter > 0 and method.stopped()
        if progress.n_active == 0 or late or loop.n_iter >= method.max_iter:
            return _result(loop, late)
        loop = loop._replace(n_iter=loop.n_iter + 1, runs=_step(passes, loop))


class _Passes(NamedTuple):
    """What passes over the rows need."""

    data: Dataset
    assignments: list[Assignment]
    ballot: Ballot | None

    def evaluate(self, starts: list[int], centers: Vector, window: NDArray[np.int64] | None) -> Runs:
        """Return the state of some starts at centres. Collective, one pass and one message as a rule."""
        r, k, d = centers.shape
        assignments = [self.assignments[i] for i in starts]

        def statistics(block: Block) -> Iterator[Vector]:
            return sums_of_all(block, assignments, centers)

        n, known = r * n_cluster_sums(k, d), None if window is None else window.ravel()
        reduced = reduce_blocks(self.data, statistics, n, window=known, ballot=self.ballot)
        sums = reduced.total.reshape(r, -1)
        totals, sizes = sums[:, : k * d].reshape(r, k, d), sums[:, k * d : -1]
        following = np.divide(totals, sizes[..., None], out=centers.copy(), where=sizes[..., None] > 0)
        following = refill(self.data, centers, following, sizes)
        zeros = np.zeros(r, np.int64)
        rest = (zeros.astype(float), zeros, zeros > 0, reduced.window.reshape(r, -1))
        return Runs(centers, following, sizes, sums[:, -1], *rest)


def _begin(passes: _Passes, centers: Vector) -> Runs:
    return passes.evaluate(list(range(len(centers))), centers, None)


def _step(passes: _Passes, loop: Loop) -> Runs:
    """Return the state with the centres of all starts that are not done at the means of their rows."""
    runs = Runs._make(part.copy() for part in loop.runs)
    runs.n_iter[~runs.ended] += 1
    runs.shift[~runs.ended] = np.square(runs.following - runs.centers).sum(axis=(1, 2))[~runs.ended]
    still = (runs.following == runs.centers).all(axis=(1, 2))
    moving = np.flatnonzero(~runs.ended & ~still)
    runs.ended[still] = True
    if moving.size:
        found = passes.evaluate(moving.tolist(), runs.following[moving], runs.window[moving])
        _accept(runs, moving, found)
        runs.ended[moving] |= runs.shift[moving] <= loop.threshold
    return runs


def _accept(runs: Runs, moving: NDArray[np.int64], found: Runs) -> None:
    """Put what was found in place, but for starts whose inertia did not fall: they end where they were.

    Without rounding it falls whenever a row changes its centre. With it, centres could go round for ever.
    """
    falls = found.inertia < runs.inertia[moving]
    for name in ("centers", "following", "sizes", "inertia", "window"):
        getattr(runs, name)[moving[falls]] = getattr(found, name)[falls]
    runs.ended[moving[~falls]] = True


def _best(runs: Runs) -> int:
    return int(np.argmin(runs.inertia))


def _progress(loop: Loop) -> Progress:
    runs, best = loop.runs, _best(loop.runs)
    return Progress(loop, float(runs.inertia[best]), int((~runs.ended).sum()), float(runs.shift[best]))


def _result(loop: Loop, late: bool) -> Result:
    runs, i = loop.runs, _best(loop.runs)
    converged = bool(runs.ended[i])
    timed = late and not runs.ended.all()
    inertia, n_iter, loops = float(runs.inertia[i]), int(runs.n_iter[i]), (i, timed, loop)
    return Result(runs.centers[i], inertia, runs.sizes[i], n_iter, converged, _why(loop, i, late), *loops)


def _why(loop: Loop, i: int, late: bool) -> str:
    if not loop.runs.ended[i]:
        return "the time limit was reached" if late else "max_iter was reached"
    moved = float(loop.runs.shift[i])
    if moved == 0.0:
        return "no row changed its centre"
    if moved <= loop.threshold:
        return f"the centres moved by {moved:.3g} in squares, and tol allows {loop.threshold:.3g}"
    return "the inertia fell no more: rounding limits it"
