"""Subproblems and the consensus work at the same time: one process coordinates, nobody waits for all.

Letters to the coordinator are ``[n, version, first, difference...]``, an update of n subproblems at the
consensus of that version; n = 0 is the last one of a process. Letters from the coordinator are
``[version, consensus...]``; version 0 ends the work, and -1 comes with the outcome. Nothing is on its way
afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Vector
from hpcml.algorithms.running_sums import RunningSums
from hpcml.algorithms.workshop import Update, Workshop
from hpcml.collectives.mailbox import Letter, Mailbox
from hpcml.data import RowPartition

__all__ = ["LAGS", "Outcome", "Pace", "meet"]

LAGS = 16
"""Classes of staleness: 0, 1, 2 to 3, 4 to 7, and so on."""
_HEAD = 3
_END, _OUTCOME, _FIRST = 0, -1, 1
_ENOUGH = 0.1
"""Share of the first move, in squares, that the consensus may still move in a round when work ends."""
_ROUNDS = 8


class Pace(NamedTuple):
    """How loosely processes are coupled.

    Attributes
    ----------
    min_batch : int
        Subproblems that must be updated before there is a new consensus.
    max_staleness : int
        Rounds that a process may be ahead of the slowest one and still be given a new consensus; a round is
        one update of each of its subproblems.
    """

    min_batch: int
    max_staleness: int


class Outcome(NamedTuple):
    """The last consensus; how many updates were of each staleness class, and of each subproblem."""

    z: Vector
    lags: NDArray[np.int64]
    updates: NDArray[np.int64]


def meet(
    mailbox: Mailbox,
    partition: RowPartition,
    sums: RunningSums,
    shop: Workshop,
    first: tuple[Vector, Vector],
    pace: Pace,
) -> Outcome:
    """Update subproblems and the consensus until it hardly moves.

    All processes call it, with the same sums; they need not keep step, and the outcome's bits depend on who
    came when. It ends once each subproblem was updated and the consensus, over a round of the slowest
    process, moved a tenth (in squares) of its first move; or after 8 rounds.

    Parameters
    ----------
    mailbox : Mailbox
    partition : RowPartition
    sums : RunningSums
        Of the terms that all workshops begin with.
    shop : Workshop
    first : two (n_parameters,) arrays
        The consensus that the terms were made at, and the one that the sums lead to.
    pace : Pace

    Returns
    -------
    Outcome
        The same on all.
    """
    shop.renew()
    if mailbox.place:
        return _assist(mailbox, shop, first[1], partition.n_runs)
    return _Coordinator(mailbox, partition, sums, shop, first, pace).outcome()


def _assist(mailbox: Mailbox, shop: Workshop, z: Vector, n_runs: int) -> Outcome:
    """Send updates to the coordinator until it ends the work."""
    version = _FIRST
    while True:
        letter = mailbox.take() if shop.has_work else mailbox.wait()
        if letter is None:
            mailbox.post(0, _written(shop.work(z), version))
        elif letter.values[0] == _OUTCOME:
            mailbox.settle()
            return _read_outcome(letter.values[1:], n_runs)
        elif letter.values[0] == _END:
            shop.stop()
            mailbox.post(0, np.zeros(_HEAD))
        else:
            version, z = int(letter.values[0]), letter.values[1:]
            shop.renew()


def _written(update: Update, version: int) -> Vector:
    return np.concatenate([[update.n, version, update.first], update.difference])


def _read_outcome(values: Vector, n_runs: int) -> Outcome:
    z, lags, updates = np.split(values, [values.size - LAGS - n_runs, values.size - n_runs])
    return Outcome(z, lags.astype(np.int64), updates.astype(np.int64))


class _Coordinator:
    """Takes updates in, gives the consensus out, and works on its own subproblems between letters."""

    def __init__(
        self,
        mailbox: Mailbox,
        partition: RowPartition,
        sums: RunningSums,
        shop: Workshop,
        first: tuple[Vector, Vector],
        pace: Pace,
    ) -> None:
        self._mailbox, self._sums, self._shop, self._pace = mailbox, sums, shop, pace
        self._z = self._z_of_round = first[1]
        self._first_move = sums.square(first[1] - first[0])
        self._version, self._merged, self._rounds = _FIRST, 0, 0
        starts = [partition.run(i).start for i in range(partition.n_runs)]
        self._firsts = np.searchsorted(starts, partition.borders)
        self._shares = np.diff(self._firsts)
        self._told = np.full(mailbox.size, _FIRST)
        self._left = self._shares.copy()  # updates that each one has yet to make at the version it was told
        self._done = np.zeros(mailbox.size, np.int64)
        self._lags, self._updates = np.zeros(LAGS, np.int64), np.zeros(partition.n_runs, np.int64)
        self._leavers, self._is_over = 1, False

    def outcome(self) -> Outcome:
        """Coordinate until the end, and tell all of it."""
        while not self._is_over:
            if self._shop.has_work:
                self._work()
            else:
                self._take_in(self._mailbox.wait())
            self._attend()
        self._shop.stop()
        return self._closed()

    def _work(self) -> None:
        """Update subproblems of my own at the newest consensus."""
        self._told[0] = version = self._version
        self._take_in(Letter(0, _written(self._shop.work(self._z, self._attend), version)))

    def _attend(self) -> None:
        """Take in all that has come, and then make one consensus of it."""
        while (letter := self._mailbox.take()) is not None:
            self._take_in(letter)
        if not self._is_over:
            self._renew()

    def _take_in(self, letter: Letter) -> None:
        place, values = letter
        n, version, first = (int(value) for value in values[:_HEAD])
        if not n:
            self._leavers += 1
            return
        self._sums.add(values[_HEAD:])
        self._merged += n
        self._done[place] += n
        self._left[place] -= n if version == self._told[place] else 0
        self._lags[min((self._version - version).bit_length(), LAGS - 1)] += n
        start = self._firsts[place] + first
        self._updates[start : start + n] += 1

    def _renew(self) -> None:
        """Make a new consensus where it is time, and tell those who may have it."""
        if self._merged >= self._pace.min_batch or (self._merged and not self._left.any()):
            self._z = self._sums.minimum(self._z)
            self._version, self._merged = self._version + 1, 0
            self._is_over = self._is_enough()
        if not self._is_over:
            self._tell()

    def _is_enough(self) -> bool:
        rounds = int(self._rounds_of_each.min())
        if rounds == self._rounds:
            return False
        move = self._sums.square(self._z - self._z_of_round)
        self._rounds, self._z_of_round = rounds, self._z
        return not move > _ENOUGH * self._first_move or rounds >= _ROUNDS

    @property
    def _rounds_of_each(self) -> NDArray[np.int64]:
        has_share = self._shares > 0
        return np.asarray(self._done[has_share] // self._shares[has_share])

    def _tell(self) -> None:
        """Give the consensus to those who have worked at the last one they had, and are not too far ahead."""
        furthest = int(self._rounds_of_each.min()) + self._pace.max_staleness
        ahead = self._done // np.maximum(self._shares, 1) > furthest
        due = (self._told < self._version) & (self._left < self._shares) & ~ahead
        for place in np.flatnonzero(due).tolist():
            self._told[place], self._left[place] = self._version, self._shares[place]
            if place:
                self._mailbox.post(place, np.concatenate([[self._version], self._z]))
            else:
                self._shop.renew()

    def _closed(self) -> Outcome:
        """End the work, take in the last updates, and tell all what came of it."""
        others = range(1, self._mailbox.size)
        for place in others:
            self._mailbox.post(place, np.array([_END], np.float64))
        while self._leavers < self._mailbox.size:
            self._take_in(self._mailbox.wait())
        z = self._sums.minimum(self._z) if self._merged else self._z
        for place in others:
            self._mailbox.post(place, np.concatenate([[_OUTCOME], z, self._lags, self._updates]))
        self._mailbox.settle()
        return Outcome(z, self._lags, self._updates)
