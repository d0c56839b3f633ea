"""The subproblems of a process, updated one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.local_models import local_model
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.running_sums import packed, unpacked
from hpcml.data import own_runs

__all__ = ["Term", "Update", "Workshop", "make_term"]


class Term(NamedTuple):
    """A subproblem's new dual variable, and its part of the running sums, packed."""

    y: Vector
    sums: Vector


def make_term(y: Vector, gradient: Vector, hessian: NDArray[np.float64], move: Vector, rho: float) -> Term:
    """Return the ADMM update of a subproblem at a consensus z that lies `move` from the sums' start w. Local.

    With M = H in ``x = argmin f(x) + y . x + rho / 2 ||x - z||_M^2`` and one Newton step from z, all that is
    needed of x is ``p = rho M (x - z) = -rho / (1 + rho) (g + y)``: no equations are solved. Then
    ``y' = y + p``, and the consensus needs ``s = y' + rho M (x - w) = y' + p + rho H (z - w)``.
    """
    pull = -rho / (1 + rho) * (gradient + y)
    new = y + pull
    return Term(new, packed(new + pull + rho * (hessian @ move), hessian))


class Update(NamedTuple):
    """`n` subproblems from the `first` of mine on were updated: their new terms less the old ones."""

    first: int
    n: int
    difference: Vector


class Workshop:
    """Updates my subproblems in turn, each once for a consensus. All Local.

    Parameters
    ----------
    objective : Objective
    w : (n_parameters,) array
        Where `parts` were taken, and where the sums begin.
    rho : float
    y : (my runs, n_parameters) array
    parts : (my runs, any) array
        Gradient and Hessian of each subproblem at w, packed.
    batch : int
        Subproblems of an update.

    Attributes
    ----------
    parts : (my runs, any) array
        As given.
    """

    def __init__(
        self, objective: Objective, w: Vector, rho: float, y: Vector, parts: Vector, batch: int
    ) -> None:
        self._objective, self._w, self._rho, self.parts = objective, w, rho, parts
        self._runs = own_runs(objective.data)
        pairs = [unpacked(part, w.size) for part in parts]
        still = np.zeros_like(w)
        self._terms = [make_term(dual, *pair, still, rho) for dual, pair in zip(y, pairs, strict=True)]
        self._batch = max(1, min(batch, len(self._runs)))
        self._next = 0
        self._left = 0

    @property
    def has_work(self) -> bool:
        """Whether a subproblem has not seen the last consensus."""
        return self._left > 0

    @property
    def y(self) -> NDArray[np.float64]:
        """The dual variables, (my runs, n_parameters)."""
        return np.reshape([term.y for term in self._terms], (len(self._runs), self._w.size))

    def renew(self) -> None:
        """Let each subproblem be updated once more: there is a new consensus."""
        self._left = len(self._runs)

    def stop(self) -> None:
        """Let none be updated any more."""
        self._left = 0

    def work(self, z: Vector, pause: Callable[[], None] = lambda: None) -> Update:
        """Update the next subproblems at the consensus z, one pass over their rows."""
        first, n = self._next, min(self._batch, self._left, len(self._runs) - self._next)
        self._next = (first + n) % len(self._runs)
        self._left -= n  # before the work: a pause may bring the next consensus
        difference = sum(self._renewed(i, z, pause) for i in range(first, first + n))
        return Update(first, n, np.asarray(difference))

    def _renewed(self, i: int, z: Vector, pause: Callable[[], None]) -> Vector:
        model, old = local_model(self._objective, z, self._runs[i], pause), self._terms[i]
        self._terms[i] = make_term(old.y, model.gradient, model.hessian, z - self._w, self._rho)
        return self._terms[i].sums - old.sums
