"""k-means from beginning to end: the first look, the starts, the iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.lloyd import Lloyd, Loop, Progress, Result, run_lloyd
from hpcml.algorithms.clustering.look import Look, look
from hpcml.algorithms.clustering.starts import Start, find_starts
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.survey import Names
from hpcml.data import Dataset
from hpcml.errors import DataError, SpecError, shared

__all__ = ["KMeansSettings", "begin", "fit_kmeans", "too_few_distinct"]

_PLAIN_NAMES = Names(weight="sample_weight")


@dataclass(frozen=True)
class KMeansSettings:
    """What k-means is asked for.

    Parameters
    ----------
    start : Start
        Says how many centres, too.
    max_iter : int
    tol : float
        A start ends when all its centres together moved by a squared distance of at most tol times the mean
        variance of the columns, as in scikit-learn; at 0, when no row changed its centre.
    stopped : callable
        Says after each iteration, from reduced numbers, whether the time limit has come.
    """

    start: Start
    max_iter: int = 300
    tol: float = 1e-4
    stopped: Callable[[], bool] = field(default=lambda: False)


def fit_kmeans(
    data: Dataset,
    settings: KMeansSettings,
    *,
    centers: NDArray[Any] | None = None,
    names: Names = _PLAIN_NAMES,
    finite: bool = False,
    loop: Loop | None = None,
    callback: Callable[[Progress], None] = lambda progress: None,
    ballot: Ballot | None = None,
) -> Result:
    """Group the rows of all processes around k centres.

    Collective: the messages of `look`, `find_starts` and `run_lloyd`; with a loop, of the last alone.

    Parameters
    ----------
    data : Dataset
    settings : KMeansSettings
    centers : (k, n_features) array, optional
        To start from; the method of the start does not matter then.
    names : Names
        For errors.
    finite : bool
        X is known to be finite.
    loop, callback, ballot
        Of `run_lloyd`.

    Raises
    ------
    DataError
        Rows that are not fit to be grouped, or fewer rows than centres.
    SpecError
        The centres to start from have another shape, or are not finite.
    """
    if loop is not None:
        return run_lloyd(data, _method(settings, loop.threshold), loop=loop, callback=callback, ballot=ballot)
    found, starts = begin(data, settings.start, centers, names, finite=finite)
    method = _method(settings, settings.tol * found.variance)
    return run_lloyd(data, method, starts, callback=callback, ballot=ballot)


def begin(
    data: Dataset,
    start: Start,
    centers: NDArray[Any] | None = None,
    names: Names = _PLAIN_NAMES,
    *,
    finite: bool = False,
) -> tuple[Look, NDArray[np.float64]]:
    """Return what the first look found, and centres for each start, (n_init, k, n_features).

    Collective: the messages of `look` and `find_starts`. Parameters and errors as of `fit_kmeans`.
    """
    found = look(data, names, finite=finite)
    if found.n_rows < start.n_clusters:
        sentence = f"n_clusters={start.n_clusters} is more than there are rows"
        raise shared(DataError(f"{names.X}: {sentence} (n_samples={found.n_rows}); ask for fewer clusters"))
    return found, find_starts(data, start) if centers is None else _given(data, start, centers)


def too_few_distinct(result: Result) -> str:
    """Return a sentence where some centres have no rows, else nothing. Local."""
    k, distinct = result.sizes.size, int((result.sizes > 0).sum())
    if distinct == k or not result.converged:
        return ""
    return f"{distinct} distinct clusters were found, fewer than n_clusters={k}: rows are duplicates"


def _method(settings: KMeansSettings, threshold: float) -> Lloyd:
    return Lloyd(settings.max_iter, threshold, settings.stopped)


def _given(data: Dataset, start: Start, centers: NDArray[Any]) -> NDArray[np.float64]:
    """Return one start from centres of the caller's. Local, the same on every process."""
    given, wanted = np.asarray(centers, np.float64), (start.n_clusters, data.n_features)
    if given.shape != wanted:
        raise shared(SpecError(f"centres to start from need the shape {wanted}, not {given.shape}"))
    if not np.isfinite(given).all():
        raise shared(SpecError("centres to start from must be finite"))
    return given[None]
