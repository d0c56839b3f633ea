"""How good predictions are, over the rows of all ranks and to the same bits for any split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import raw_prediction
from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.losses import Logistic
from hpcml.collectives import Communicator
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import DataError, on_all_ranks

__all__ = ["METRICS", "Scores", "evaluate", "roc_auc"]

Vector = NDArray[np.float64]
GATHERED_ROWS = 1 << 24
_BINS = 1 << 20


class Scored(NamedTuple):
    """A block's labels and raw predictions, without its rows of X."""

    block: Block
    y: Vector
    z: Vector


class Scores(NamedTuple):
    """Metrics by name, the rows they are over, and remarks on how they were computed."""

    metrics: dict[str, float]
    n_rows: int
    notes: dict[str, str]


def evaluate(data: Dataset, model: LinearModel, metrics: Sequence[str]) -> Scores:
    """Return metrics of a model on the rows of all ranks; each row counts once.

    Collective: one pass; one to four messages a metric.

    Raises
    ------
    DataError
        No rows, labels that the model does not know, or one class alone where two are needed.
    """
    scored = []
    for block in data.blocks():
        assert block.y is not None
        z = raw_prediction(block, model.coef, model.intercept)
        bare = Block(np.zeros((0, 0)), block.y, None, block.index, block.shards, block.pieces)
        scored.append(Scored(bare, block.y, z))
    n_rows = int(data.comm.allreduce(np.array([sum(s.z.size for s in scored)]))[0][0])
    if n_rows == 0:
        raise on_all_ranks(DataError("there are no rows to evaluate on"))
    _check_labels(data.comm, scored, model)
    notes: dict[str, str] = {}
    values = {name: METRICS[name](data.comm, scored, model, n_rows, notes) for name in metrics}
    return Scores(values, n_rows, notes)


def _check_labels(comm: Communicator, scored: Iterable[Scored], model: LinearModel) -> None:
    if not model.classes.size:
        return
    unknown = sorted({v for s in scored for v in np.setdiff1d(s.y, model.classes).tolist()})
    everyone = sorted(set().union(*comm.allgather(unknown[:10])))
    if everyone:
        raise on_all_ranks(DataError(f"label {everyone[0]:g} is not a class of the model ({model.classes.tolist()})"))


def _mean(comm: Communicator, scored: Iterable[Scored], row: Callable[[Scored], Vector], n_rows: int) -> float:
    partials = [s.block.shard_sums(row(s))[:, None] for s in scored]
    return float(reduce_partials(comm, lambda: partials, 1).total[0]) / n_rows


def _accuracy(comm: Communicator, scored: list[Scored], model: LinearModel, n_rows: int, notes: dict[str, str]) -> float:
    right = sum(int((model.classes[(s.z > 0).astype(int)] == s.y).sum()) for s in scored)
    return int(comm.allreduce(np.array([right]))[0][0]) / n_rows


def _log_loss(comm: Communicator, scored: list[Scored], model: LinearModel, n_rows: int, notes: dict[str, str]) -> float:
    loss = Logistic(positive=float(model.classes[1]))
    return _mean(comm, scored, lambda s: loss.terms(s.z, s.y).value, n_rows)


def _roc_auc(comm: Communicator, scored: list[Scored], model: LinearModel, n_rows: int, notes: dict[str, str]) -> float:
    z = np.concatenate([np.zeros(0), *(s.z for s in scored)])
    positive = np.concatenate([np.zeros(0, bool), *(s.y == model.classes[1] for s in scored)])
    value, error = roc_auc(comm, z, positive, n_rows)
    if error is not None:
        notes["roc_auc"] = f"from a histogram of {_BINS} bins; at most {error:.2g} off"
    return value


def _rmse(comm: Communicator, scored: list[Scored], model: LinearModel, n_rows: int, notes: dict[str, str]) -> float:
    return float(np.sqrt(_mean(comm, scored, lambda s: np.square(s.z - s.y), n_rows)))


def _r2(comm: Communicator, scored: list[Scored], model: LinearModel, n_rows: int, notes: dict[str, str]) -> float:
    """``1 - sum (y - z)^2 / sum (y - mean y)^2``; as scikit-learn has it, 1 or 0 where y is constant."""
    mean = _mean(comm, scored, lambda s: s.y, n_rows)
    spread = _mean(comm, scored, lambda s: np.square(s.y - mean), n_rows)
    error = _mean(comm, scored, lambda s: np.square(s.z - s.y), n_rows)
    return 1.0 - error / spread if spread else float(error == 0)


METRICS = {"accuracy": _accuracy, "log_loss": _log_loss, "roc_auc": _roc_auc, "r2": _r2, "rmse": _rmse}


def roc_auc(
    comm: Communicator, scores: Vector, positive: NDArray[np.bool_], n_rows: int
) -> tuple[float, float | None]:
    """Return the area under the ROC curve, and a bound of its error where it is not exact.

    Collective: two messages and a small one. The share of (positive, negative) pairs in which the positive
    row has the higher score, ties counting half; up to 2^24 rows counted exactly, in integers, from all scores
    gathered on one rank; above that from a histogram of the probability.

    References
    ----------
    Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006),
    doi:10.1016/j.patrec.2005.10.010.
    """
    exact = n_rows <= GATHERED_ROWS
    pairs = _exact_pairs(comm, scores, positive) if exact else _binned_pairs(comm, scores, positive)
    both = pairs.positives * pairs.negatives
    if not both:
        raise on_all_ranks(DataError("ROC AUC needs rows of both classes"))
    return (2 * pairs.above + pairs.ties) / (2 * both), None if exact else pairs.ties / (2 * both)


class _Pairs(NamedTuple):
    """Counts of rows, and of (positive, negative) pairs in right order and tied."""

    above: int
    ties: int
    positives: int
    negatives: int


def _counted(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> _Pairs:
    """Count pairs from the rows at each rising score; Python's integers do not overflow. Local."""
    below = np.concatenate([[0], np.cumsum(negatives)[:-1]])
    used = np.flatnonzero(positives)
    counts = positives[used].tolist()
    above = sum(p * b for p, b in zip(counts, below[used].tolist(), strict=True))
    ties = sum(p * n for p, n in zip(counts, negatives[used].tolist(), strict=True))
    return _Pairs(above, ties, int(positives.sum()), int(negatives.sum()))


def _exact_pairs(comm: Communicator, scores: Vector, positive: NDArray[np.bool_]) -> _Pairs:
    """Gather scores and labels on the first process and count there. Collective."""
    rows = np.empty(scores.size, [("score", "<f8"), ("positive", "u1")])
    rows["score"], rows["positive"] = scores, positive
    empty = np.zeros(0, np.uint8)
    received = comm.alltoall([rows.view(np.uint8), *[empty] * (comm.size - 1)])
    gathered = np.concatenate(received).view(rows.dtype)
    _, group = np.unique(gathered["score"], return_inverse=True)
    is_positive = gathered["positive"].astype(bool)
    n_groups = int(group.max(initial=-1)) + 1
    counts = [np.bincount(group[mask], minlength=n_groups) for mask in (is_positive, ~is_positive)]
    return _Pairs(*comm.bcast(list(_counted(*counts))))


def _binned_pairs(comm: Communicator, scores: Vector, positive: NDArray[np.bool_]) -> _Pairs:
    """Count pairs of bins of the probability. Collective, one message."""
    bins = np.minimum((_BINS / (1.0 + np.exp(-np.clip(scores, -700, 700)))).astype(np.int64), _BINS - 1)
    counts = [np.bincount(bins[mask], minlength=_BINS).astype(np.int64) for mask in (positive, ~positive)]
    return _counted(*comm.allreduce(*counts))
