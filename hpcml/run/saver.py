"""What happens between iterations: votes, journal lines, checkpoints."""

from __future__ import annotations

import time

from hpcml.algorithms.progress import Progress
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.state import gathered, to_tree
from hpcml.collectives import Communicator, agreed
from hpcml.io.checkpoint import write_checkpoint
from hpcml.run.directory import RunDirectory
from hpcml.run.journal import Journal
from hpcml.run.phases import Phases
from hpcml.spec import Spec

__all__ = ["Saver"]


class Saver:
    """The callback of a fit.

    What a clock decides is voted on in the iteration's own message: the time limit by every rank,
    a checkpoint by the first one.

    Attributes
    ----------
    ballot : Ballot
        For the objective of the fit.
    seconds : float
        Spent on checkpoints.
    """

    def __init__(
        self, spec: Spec, comm: Communicator, directory: RunDirectory, journal: Journal, phases: Phases
    ) -> None:
        self._cadence = spec.checkpoint.every
        self._keep = spec.checkpoint.keep
        self._max_time = spec.solver.max_time
        self._comm = comm
        self._directory = directory
        self._journal = journal
        self._phases = phases
        self._saved_at = time.monotonic()
        self.last_saved = 0
        self.seconds = 0.0
        self.ballot = Ballot(self._votes)

    def _votes(self) -> tuple[int, int]:
        late = self._max_time is not None and self._phases.total > self._max_time
        every = self._cadence.seconds if self._cadence else None
        due = self._comm.rank == 0 and every is not None and time.monotonic() - self._saved_at > every
        return int(late), int(due)

    def is_late(self) -> bool:
        """Return whether any rank voted that the time limit has come. Local, the same on every rank."""
        return bool(self.ballot.result and self.ballot.result[0])

    def __call__(self, progress: Progress) -> None:
        """Write a line, and a checkpoint where one is due: Collective then, one message or few."""
        n_iter = progress.loop.n_iter
        if n_iter > self.last_saved and self._is_due(n_iter):
            self._save(progress)
        if self._comm.rank == 0:
            self._journal.note(progress)

    def _is_due(self, n_iter: int) -> bool:
        every = self._cadence.iterations if self._cadence else None
        voted = bool(self.ballot.result and self.ballot.result[1])
        return voted or (every is not None and n_iter % every == 0)

    def _save(self, progress: Progress) -> None:
        begin = time.perf_counter()
        self.last_saved = progress.loop.n_iter
        tree = to_tree(gathered(self._comm, progress.loop))
        with agreed(self._comm):
            if self._comm.rank == 0:
                self._journal.flush()
                write_checkpoint(self._directory.checkpoints, self.last_saved, tree, self._keep)
        self._saved_at = time.monotonic()
        self.seconds += time.perf_counter() - begin
