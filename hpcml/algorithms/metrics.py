"""How good predictions are, over the rows of all ranks and to the same bits for any split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.losses.kinds import make_loss
from hpcml.algorithms.target import check_labels
from hpcml.collectives import Communicator, agreed
from hpcml.collectives.gathering import on_first
from hpcml.collectives.reproducible import reduce_partials
from hpcml.data import Block, Dataset
from hpcml.errors import DataError, shared

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


class _Evaluation(NamedTuple):
    """What every metric is computed from."""

    comm: Communicator
    scored: list[Scored]
    model: LinearModel
    n_rows: int
    notes: dict[str, str]

    def mean(self, row: Callable[[Scored], Vector]) -> float:
        """Return the mean over all rows. Collective, two messages."""
        partials = [s.block.shard_sums(row(s))[:, None] for s in self.scored]
        return float(reduce_partials(self.comm, lambda: partials, 1).total[0]) / self.n_rows


def evaluate(data: Dataset, model: LinearModel, metrics: Sequence[str], name: str = "y") -> Scores:
    """Return metrics of a model on the rows of all ranks; each row counts once.

    Collective: one pass; two to four small messages, and one to seven a metric.

    Parameters
    ----------
    data : Dataset
    model : LinearModel
    metrics : sequence of str
    name : str
        What y is called in errors.

    Raises
    ------
    DataError
        No rows or labels, labels that the model does not know or its loss is not defined for, or one class
        alone where two are needed.
    """
    with agreed(data.comm):
        scored = [_scored(block, model, name) for block in data.blocks()]
    n_rows = int(data.comm.allreduce(np.array([sum(s.y.size for s in scored)]))[0][0])
    if n_rows == 0:
        raise shared(DataError("there are no rows to evaluate on"))
    _check_labels(data.comm, scored, model)
    evaluation = _Evaluation(data.comm, scored, model, n_rows, {})
    values = {name: METRICS[name](evaluation) for name in metrics}
    return Scores(values, n_rows, evaluation.notes)


def _scored(block: Block, model: LinearModel, name: str) -> Scored:
    if block.y is None:
        raise DataError("metrics need labels, and the data set has no y")
    if not model.classes.size:
        check_labels(block, model.loss, name)
    z = raw_prediction(block, model.coef, model.intercept)
    return Scored(block.without_rows(), block.y, z)


def _check_labels(comm: Communicator, scored: Iterable[Scored], model: LinearModel) -> None:
    if not model.classes.size:
        return
    unknown = sorted({v for s in scored for v in np.setdiff1d(s.y, model.classes).tolist()})
    everyone = sorted(set().union(*comm.allgather(unknown[:10])))
    if everyone:
        known = model.classes.tolist()
        raise shared(DataError(f"label {everyone[0]:g} is not a class of the model ({known})"))


def _accuracy(of: _Evaluation) -> float:
    right = sum(int((of.model.predicted(s.z) == s.y).sum()) for s in of.scored)
    return int(of.comm.allreduce(np.array([right]))[0][0]) / of.n_rows


def _log_loss(of: _Evaluation) -> float:
    loss = make_loss("logistic_regression", of.model.classes)
    return of.mean(lambda s: loss.terms(s.z, s.y).value)


def _roc_auc(of: _Evaluation) -> float:
    if of.model.classes.size > 2:
        return _mean_roc_auc(of)
    z = np.concatenate([np.zeros(0), *(s.z for s in of.scored)])
    positive = np.concatenate([np.zeros(0, bool), *(s.y == of.model.classes[1] for s in of.scored)])
    value, error = roc_auc(of.comm, z, positive, of.n_rows)
    if error is not None:
        of.notes["roc_auc"] = f"from a histogram of {_BINS} bins; at most {error:.2g} off"
    return value


def _mean_roc_auc(of: _Evaluation) -> float:
    """Return the mean, over the classes that rows have, of each class's area against all others."""
    classes = of.model.classes
    z = np.concatenate([np.zeros((0, classes.size)), *(s.z for s in of.scored)])
    y = np.concatenate([np.zeros(0), *(s.y for s in of.scored)])
    counts = of.comm.allreduce(np.array([(y == label).sum() for label in classes]))[0]
    there = np.flatnonzero(counts)
    areas = [roc_auc(of.comm, _against_others(z, c), y == classes[c], of.n_rows) for c in there.tolist()]
    if there.size < classes.size:
        of.notes["roc_auc"] = f"the mean over {there.size} of {classes.size} classes: no row has the others"
    elif any(error is not None for _, error in areas):
        of.notes["roc_auc"] = f"from histograms of {_BINS} bins"
    return float(np.mean([area for area, _ in areas]))


def _against_others(z: Vector, c: int) -> Vector:
    """Return ``log(p / (1 - p))`` of a class, (rows,)."""
    others = np.delete(z, c, axis=1)
    top = others.max(axis=1)
    return np.asarray(z[:, c] - top - np.log(np.exp(others - top[:, None]).sum(axis=1)))


def _rmse(of: _Evaluation) -> float:
    return float(np.sqrt(of.mean(lambda s: np.square(of.model.predicted(s.z) - s.y))))


def _r2(of: _Evaluation) -> float:
    """``1 - sum (y - z)^2 / sum (y - mean y)^2``; as scikit-learn has it, 1 or 0 where y is constant."""
    error = of.mean(lambda s: np.square(s.z - s.y))
    if _is_constant(
        of, lambda s: s.y
    ):  # the mean is rounded, so that the spread of equal labels would not be zero
        return float(error == 0)
    mean = of.mean(lambda s: s.y)
    return 1.0 - error / of.mean(lambda s: np.square(s.y - mean))


def _deviance(of: _Evaluation) -> float:
    """Return ``2 mean(loss - least loss)``, the unit deviance of the model's distribution."""
    loss = of.model.loss
    return 2.0 * of.mean(lambda s: loss.terms(s.z, s.y).value - loss.least(s.y))


def _d2(of: _Evaluation) -> float:
    """``1 - deviance / deviance of the best constant beside the offsets``; 1 or 0 where y is constant."""
    loss, deviance = of.model.loss, _deviance(of)
    if _is_constant(of, lambda s: s.y) and _is_constant(of, lambda s: s.block.offsets):
        return float(deviance <= 0)
    grown = of.mean(lambda s: loss.parts(s.block.offsets, s.y)[0])
    mean = of.mean(lambda s: loss.parts(s.block.offsets, s.y)[1]) / grown
    z = loss.best_constant(mean) if loss.has_log_link else mean
    null = 2.0 * of.mean(lambda s: loss.terms(z + s.block.offsets, s.y).value - loss.least(s.y))
    return 1.0 - deviance / null


def _is_constant(of: _Evaluation, column: Callable[[Scored], Vector]) -> bool:
    """Tell whether all values of a column are equal. Collective, one message."""
    values = np.concatenate([np.zeros(0), *map(column, of.scored)])
    ends = np.array([values.max(initial=-np.inf), -values.min(initial=np.inf)])
    (largest, minus_smallest) = of.comm.allreduce(ends, op="max")[0]
    return bool(largest == -minus_smallest)


METRICS = {
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "roc_auc": _roc_auc,
    "r2": _r2,
    "rmse": _rmse,
    "d2": _d2,
    "deviance": _deviance,
}


def roc_auc(
    comm: Communicator, scores: Vector, positive: NDArray[np.bool_], n_rows: int
) -> tuple[float, float | None]:
    """Return the area under the ROC curve, and a bound of its error where it is not exact.

    Collective: two messages and two small ones, or one message for a histogram. The share of (positive,
    negative) pairs in which the positive row has the higher score, ties counting half; up to 2^24 rows
    counted exactly, in integers, from all scores gathered on one rank; above that from a histogram of the
    probability.

    References
    ----------
    Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006),
    doi:10.1016/j.patrec.2005.10.010.
    """
    exact = n_rows <= GATHERED_ROWS
    pairs = _exact_pairs(comm, scores, positive) if exact else _binned_pairs(comm, scores, positive)
    both = pairs.positives * pairs.negatives
    if not both:
        raise shared(DataError("ROC AUC needs rows of both classes"))
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
    gathered = on_first(comm, rows)
    _, group = np.unique(gathered["score"], return_inverse=True)
    is_positive = gathered["positive"].astype(bool)
    n_groups = int(group.max(initial=-1)) + 1
    counts = [np.bincount(group[mask], minlength=n_groups) for mask in (is_positive, ~is_positive)]
    return _Pairs(*comm.bcast(list(_counted(*counts))))


def _binned_pairs(comm: Communicator, scores: Vector, positive: NDArray[np.bool_]) -> _Pairs:
    """Count pairs of bins of the probability. Collective, one message."""
    probability = 1.0 / (1.0 + np.exp(-np.clip(scores, -700, 700)))
    bins = np.minimum((_BINS * probability).astype(np.int64), _BINS - 1)
    counts = [np.bincount(bins[mask], minlength=_BINS).astype(np.int64) for mask in (positive, ~positive)]
    return _counted(*comm.allreduce(*counts))
