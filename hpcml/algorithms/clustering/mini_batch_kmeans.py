"""Mini-batch k-means from beginning to end: the first look, the start, the walk over the batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hpcml.algorithms.clustering.kmeans import begin
from hpcml.algorithms.clustering.lloyd import Lloyd, run_lloyd
from hpcml.algorithms.clustering.mini_batch import (
    MiniBatch,
    MiniBatchProgress,
    MiniBatchResult,
    MiniBatchState,
    run_mini_batch,
    start_mini_batch,
)
from hpcml.algorithms.clustering.starts import Start
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.survey import Names
from hpcml.data import Dataset

__all__ = ["MiniBatchSettings", "fit_mini_batch"]

_PLAIN_NAMES = Names(weight="sample_weight")


@dataclass(frozen=True)
class MiniBatchSettings:
    """What mini-batch k-means is asked for.

    Parameters
    ----------
    start : Start
        Says how many centres, too.
    method : MiniBatch
    tol : float
        The walk ends where a batch moved all centres together by a squared distance of at most tol times the
        mean variance of the columns; 0 is never.
    stopped : callable
        Says after each batch, from reduced numbers, whether the time limit has come.
    """

    start: Start
    method: MiniBatch = field(default_factory=MiniBatch)
    tol: float = 0.0
    stopped: Callable[[], bool] = field(default=lambda: False)


def fit_mini_batch(
    data: Dataset,
    settings: MiniBatchSettings,
    *,
    centers: NDArray[Any] | None = None,
    names: Names = _PLAIN_NAMES,
    finite: bool = False,
    loop: MiniBatchState | None = None,
    callback: Callable[[MiniBatchProgress], None] = lambda progress: None,
    ballot: Ballot | None = None,
) -> MiniBatchResult:
    """Group the rows of all processes around k centres, batch by batch.

    Collective: the messages of `begin` and of `run_mini_batch`; with a loop, of the last alone. Of several
    starts the one of the least inertia is taken, by one more pass.

    Parameters
    ----------
    data : Dataset
    settings : MiniBatchSettings
    centers : (k, n_features) array, optional
        To start from.
    names : Names
        For errors.
    finite : bool
        X is known to be finite.
    loop, callback, ballot
        Of `run_mini_batch`.

    Raises
    ------
    DataError, SpecError
        As of `fit_kmeans`.
    """
    if loop is None:
        found, starts = begin(data, settings.start, centers, names, finite=finite)
        centers = starts[0] if len(starts) == 1 else run_lloyd(data, Lloyd(max_iter=0), starts).centers
        loop = start_mini_batch(centers, settings.tol * found.variance)
    method, stopped = settings.method, settings.stopped
    return run_mini_batch(data, method, loop, callback=callback, stopped=stopped, ballot=ballot)
