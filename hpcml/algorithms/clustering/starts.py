"""Where k-means begins: rows of the data, chosen to the same bits on any number of processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.draws import draws_by, masses_of, ones_of
from hpcml.algorithms.clustering.least_rows import FewRows, least_rows
from hpcml.algorithms.clustering.lloyd import Lloyd, run_lloyd
from hpcml.algorithms.clustering.parallel_start import candidates
from hpcml.algorithms.clustering.plus_plus import plus_plus
from hpcml.collectives import SerialCommunicator
from hpcml.data import ArrayDataset, Dataset

__all__ = ["METHODS", "Start", "find_starts"]

METHODS = ("k-means||", "k-means++", "random")
_SAMPLE_ROWS = 4096
_ROWS_PER_CENTER = 32
_POLISH = 8
"""Lloyd iterations over the few rows that k-means++ chose from."""


@dataclass(frozen=True)
class Start:
    """How centres to begin with are chosen.

    Parameters
    ----------
    n_clusters : int
        k, at least 1.
    method : {"k-means||", "k-means++", "random"}
        "k-means||" weighs candidates of a few rounds over all rows. "k-means++" takes a keyed sample of
        4,096 rows, or 32 k if that is more; with no more rows than that, it takes all. "random" takes rows
        with probabilities like their weights.
    n_init : int
        Starts that are found together.
    seed : int
    oversampling_factor : float
        Candidates of a round of k-means|| over k.
    rounds : int
        Of k-means||.
    """

    n_clusters: int
    method: str = METHODS[0]
    n_init: int = 1
    seed: int = 0
    oversampling_factor: float = 2.0
    rounds: int = 2


def find_starts(data: Dataset, start: Start) -> NDArray[np.float64]:
    """Return centres for each start, (n_init, k, n_features).

    Collective. k-means|| takes ``rounds + 2`` passes and ``3 (rounds + 1) n_init + 2`` messages, the others
    one pass and ``3 n_init``. Where fewer than k rows can be chosen, some are given several times.

    Parameters
    ----------
    data : Dataset
        Checked: finite, with a weight above zero.
    start : Start
    """
    numbers, k, seed = range(start.n_init), start.n_clusters, start.seed
    if start.method == "random":
        found = least_rows(data, k, [draws_by(masses_of, seed, i, 0) for i in numbers])
        return np.stack([np.resize(rows.X, (k, rows.X.shape[1])) for rows in found])
    if start.method == "k-means++":
        n = max(_SAMPLE_ROWS, _ROWS_PER_CENTER * k)
        few = least_rows(data, n, [draws_by(ones_of, seed, i, 0) for i in numbers])
    else:
        per_round = max(1, round(start.oversampling_factor * k))
        few = candidates(data, numbers, seed, per_round, start.rounds)
    return np.stack([_among(rows, k, seed, i) for i, rows in enumerate(few)])


def _among(rows: FewRows, k: int, seed: int, start: int) -> NDArray[np.float64]:
    """Return centres of a few weighted rows, the same on every process. Local."""
    random = np.random.Generator(np.random.Philox(key=[seed % 2**64, start]))
    centers = plus_plus(rows, k, random)
    alone = ArrayDataset(rows.X, None, rows.weight, comm=SerialCommunicator())
    return run_lloyd(alone, Lloyd(_POLISH), centers[None]).centers
