"""Whose run directory it is: a new run's, this one's to go on with, or another's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcml.collectives import Communicator, agreed
from hpcml.errors import SpecError, shared
from hpcml.io.checkpoint import last_checkpoint
from hpcml.io.lock import HELD, holder_of, release, try_lock
from hpcml.run.checks import spec_hash
from hpcml.run.directory import RunDirectory, run_path
from hpcml.run.provenance import fingerprint, host_name
from hpcml.spec import Spec, render_yaml, resolved

__all__ = ["Claim", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What to do in a run directory.

    Parameters
    ----------
    result : dict or None
        Of the finished run, where nothing is left to do.
    compares : bool
        The run is finished, but the file has changed since: it is done only if the rows are the same.
    resumes : bool
        There is a checkpoint to go on from.
    attempt : int
    """

    result: dict[str, Any] | None = None
    compares: bool = False
    resumes: bool = False
    attempt: int = 1


class Claim:
    """One run's hold on its directory; the first process reads and writes, all follow its findings.

    Attributes
    ----------
    is_begun : bool
        Whether this attempt may write into the directory.
    """

    def __init__(self, spec: Spec, text: str, provenance: dict[str, Any], comm: Communicator) -> None:
        self.spec = spec
        self.directory = RunDirectory(run_path(spec))
        self.provenance = provenance
        self._text = text
        self._comm = comm
        self._hash = spec_hash(spec)
        self.is_begun = False
        self._lock = HELD

    def plan(self) -> Plan:
        """Look at the directory and, unless the run is finished, begin an attempt.

        Collective, four small messages.

        Raises
        ------
        SpecError
            The directory holds something else, or lacks the checkpoint that is required.
        OutputError
            It cannot be written.
        """
        plan = Plan()
        hosts = self._comm.allgather(host_name())
        with agreed(self._comm):
            if self._comm.rank == 0:
                plan = self._found(hosts)
        plan = Plan(**self._comm.bcast(vars(plan)))
        self.is_begun = plan.result is None and not plan.compares
        return plan

    def _found(self, hosts: list[str]) -> Plan:
        """Take the directory and find out what is left to do in it."""
        finished = self._finished()
        if finished is not None:
            return finished
        lock = self.directory.lock
        self._lock = try_lock(lock)
        if self._lock == HELD:
            raise SpecError(f"output.dir: {self.directory.path} is in use by {holder_of(lock)}")
        # Who had the lock until now may have left the directory to others, or finished this very run.
        return self._finished() or self._attempt(hosts)

    def release(self) -> None:
        """Let other jobs have the directory. Local."""
        release(self._lock, self.directory.lock)
        self._lock = HELD

    def _finished(self) -> Plan | None:
        """Return the plan where nothing is to be written: the run is finished, and not to be run again."""
        directory = self.directory
        directory.refuse_foreign(self._hash, self.spec.output.overwrite)
        state, finished = directory.state, directory.finished
        same = state.get("spec") == self._hash
        if not same or finished is None or self.spec.output.overwrite != "never":
            return None
        unchanged = state.get("inputs") == self._inputs()
        return Plan(result=finished if unchanged else None, compares=not unchanged)

    def _attempt(self, hosts: list[str]) -> Plan:
        """Begin an attempt: from the last checkpoint of this run, or from nothing."""
        directory, spec = self.directory, self.spec
        state = directory.state if directory.state.get("spec") == self._hash else {}
        again = spec.output.overwrite == "always" or directory.finished is not None
        resumes = bool(state) and not again and self._resumes()
        if spec.checkpoint.resume == "required" and not resumes:
            raise SpecError(
                f"checkpoint.resume: required, and {directory.path} has no checkpoint of this run"
            )
        if not resumes:
            directory.clear()
        return Plan(resumes=resumes, attempt=self._begin(state, hosts))

    def _inputs(self) -> list[dict[str, Any] | None]:
        """Return what tells cheaply that the data files are the same. Local."""
        test = self.spec.data.split.test
        return [fingerprint(path) for path in (*self.spec.data.path, test) if isinstance(path, Path)]

    def _resumes(self) -> bool:
        allowed = self.spec.checkpoint.resume != "never"
        return allowed and last_checkpoint(self.directory.checkpoints) is not None

    def _begin(self, state: dict[str, Any], hosts: list[str]) -> int:
        texts = {
            "spec.yaml": self._text,
            "resolved.yaml": render_yaml(resolved(self.spec)),
            "provenance.json": json.dumps({**self.provenance, "hosts": hosts}, indent=2) + "\n",
        }
        return self.directory.begin(texts, {**state, "name": self.spec.name, "spec": self._hash})

    def confirm(
        self, plan: Plan, data: str, arithmetic: str, other_arithmetic: bool
    ) -> dict[str, Any] | None:
        """Bind the directory to the rows that were read; return the result if the run is finished after all.

        Collective, two small messages.

        Raises
        ------
        SpecError
            The rows or the arithmetic are not those that the run began with.
        """
        state = self._comm.bcast(self.directory.state if self._comm.rank == 0 else None)
        if (plan.resumes or plan.compares) and state.get("data") != data:
            raise shared(SpecError(f"the rows have changed since {self.directory.path} was begun; {_CURE}"))
        if plan.compares:
            return self._comm.bcast(self.directory.finished if self._comm.rank == 0 else None)  # type: ignore[no-any-return]
        if plan.resumes and state.get("arithmetic") != arithmetic and not other_arithmetic:
            began = state.get("arithmetic")
            sentence = f"the run was begun with {began}, this is {arithmetic}: the bits would differ"
            raise shared(SpecError(f"{sentence}; go on with --other-arithmetic, or start anew elsewhere"))
        with agreed(self._comm):
            if self._comm.rank == 0:
                self.directory.set_state(data=data, arithmetic=arithmetic, inputs=self._inputs())
        return None


_CURE = "choose another output.dir, or set output.overwrite=always"
