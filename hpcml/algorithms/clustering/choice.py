"""Which way rows find their nearest centres."""

from __future__ import annotations

from collections.abc import Callable

from hpcml.algorithms.clustering.assignment import Assignment, Plain
from hpcml.algorithms.clustering.bounds import Bounds, row_bytes
from hpcml.data import Dataset

__all__ = ["ALGORITHMS", "choose_assignment"]

ALGORITHMS = ("auto", "lloyd", "bounds")
_MOST_BYTES = 2 << 30


def choose_assignment(algorithm: str, data: Dataset, k: int, n_init: int) -> Callable[[], Assignment]:
    """Return what makes the way to nearest centres for each start. Local.

    The bits of a fit are the same for all. "auto" is "bounds", but for one centre, and where the bounds of a
    process, 8 to 132 bytes a row and start, would take more than 2 GiB.

    Parameters
    ----------
    algorithm : {"auto", "lloyd", "bounds"}
    data : Dataset
    k, n_init : int
    """
    each = -(-data.n_samples // data.comm.size)
    fits = each * n_init * row_bytes(k, data.n_features) <= _MOST_BYTES
    return Bounds if algorithm == "bounds" or (algorithm == "auto" and k > 1 and fits) else Plain
