"""Run: the one place that wires spec, data, algorithms and files together."""

from __future__ import annotations

import logging
import resource
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcml.algorithms.arithmetic import arithmetic_family
from hpcml.algorithms.kernels.choice import chosen
from hpcml.algorithms.metrics import Scores
from hpcml.collectives import Communicator, CountingCommunicator, agreed
from hpcml.collectives.abort import on_failure
from hpcml.collectives.watchdog import watch
from hpcml.errors import CollectiveError, SpecError, shared
from hpcml.io.checkpoint import last_checkpoint, read_checkpoint
from hpcml.run.claim import Claim, Plan
from hpcml.run.directory import plain
from hpcml.run.families import family_of
from hpcml.run.fit import Fit, Solved
from hpcml.run.journal import Journal
from hpcml.run.log import keep_quiet, open_log, warn
from hpcml.run.parts import Parts, open_parts
from hpcml.run.phases import Phases
from hpcml.run.provenance import host_name
from hpcml.run.results import make_result, save_results
from hpcml.run.saver import Saver
from hpcml.spec import Spec

__all__ = ["Options", "Run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says besides the spec.

    Parameters
    ----------
    show : callable
        Takes a line for the user; called on the first process.
    other_arithmetic : bool
        Go on with a run that another arithmetic began.
    """

    show: Callable[[str], None] = lambda line: None
    other_arithmetic: bool = False


class Run:
    """One experiment from its spec to its result, on the ranks of a communicator.

    Parameters
    ----------
    spec : Spec
    text : str
        The spec as given.
    comm : Communicator
    provenance : dict
        Collected before MPI started.
    options : Options
    """

    def __init__(
        self,
        spec: Spec,
        text: str,
        comm: Communicator,
        provenance: dict[str, Any],
        options: Options = Options(),
    ) -> None:
        self.spec = spec
        self._world = comm
        self.comm = CountingCommunicator(comm)
        self.options = options
        self.phases = Phases()
        self.claim = Claim(spec, text, provenance, self.comm)
        self.directory = self.claim.directory
        self._family = family_of(spec.model.type)
        self._journal = Journal(self.directory.metrics, self._show)

    def _show(self, line: str) -> None:
        if self.comm.rank == 0:
            _log.info(line)
            self.options.show(line)

    def execute(self) -> dict[str, Any]:
        """Do what is left of the run and return its result.

        Collective. A finished run gives its stored result; an unfinished one goes on from its last
        checkpoint.

        Raises
        ------
        HpcmlError
            On every rank alike, unless a rank's own read fails in the middle of a fit.
        """
        result = self._execute()
        self.claim.release()
        return result

    def _execute(self) -> dict[str, Any]:
        family = self._agreed_arithmetic()
        plan = self.claim.plan()
        if plan.result is not None:
            self._show(f"{self.directory.path} holds this run, finished:")
            return plan.result
        self._attend()
        with self.phases("convert"):
            self._make_inputs()
        with ExitStack() as stack:
            parts = open_parts(self.spec, self.comm, stack, self.phases, plan.attempt, self._show)
            finished = self.claim.confirm(plan, parts.found.digest, family, self.options.other_arithmetic)
            return finished or self._fit_and_save(parts, family, plan)

    def _make_inputs(self) -> None:
        if self.spec.data.source or self.spec.data.generate is not None:
            from hpcml.run.making import make_inputs  # most runs begin with a file that is there

            make_inputs(self.spec, self.comm, self._show)

    def _attend(self) -> None:
        """Open the log and record failures. Local."""
        if not self.claim.is_begun:
            return
        on_failure(self._record)
        keep_quiet()
        if self.comm.rank == 0:
            open_log(self.directory.path / "log.txt", self.spec.output.log_level)

    def watch(self) -> None:
        """Name ranks that a collective waits for too long, from the first one on. Local."""
        times = self.spec.watchdog
        watch(self._world, self.directory.watch, times.name_after, times.end_after, warn, self._give_up)

    def _give_up(self, sentence: str) -> None:
        """End the job for a collective that some rank never comes to. Local."""
        warn(sentence)
        if self.claim.is_begun:
            self._record(CollectiveError(sentence), sentence)
        self._world.abort(1)

    def _record(self, error: BaseException, text: str) -> bool:
        """Write error.json; tell whether this was the job's first failure. Local."""
        _log.error(text)
        return self.directory.record_failure(
            {
                "rank": self.comm.rank,
                "host": host_name(),
                "exit_code": getattr(error, "exit_code", 1),
                "kind": type(error).__name__,
                "message": str(error),
                "phase": self.phases.current,
                "traceback": text,
            }
        )

    def fail(self, error: BaseException) -> bool:
        """Record a failure for the user; tell whether this process should speak of it. Local."""
        if getattr(error, "on_all_ranks", False) and self.comm.rank != 0:
            return False
        first = not self.claim.is_begun or self._record(error, "".join(traceback.format_exception(error)))
        self.claim.release()
        return first

    def _agreed_arithmetic(self) -> str:
        with agreed(self.comm):
            mine = arithmetic_family()
        families: list[str] = sorted(set(self.comm.allgather(mine)))
        if len(families) > 1:
            sentence = (
                f"ranks compute with different arithmetic ({'; '.join(families)}): ask for nodes of one "
                "type, or set HPCML_KERNELS, OPENBLAS_CORETYPE and NPY_DISABLE_CPU_FEATURES to what all have"
            )
            raise shared(SpecError(sentence))
        return families[0]

    def _fit_and_save(self, parts: Parts, family: str, plan: Plan) -> dict[str, Any]:
        saver = Saver(self.spec, self.comm, self.directory, self._journal, self.phases)
        with self.phases("solve"):
            solved = self._solve(parts, plan, saver)
        with self.phases("evaluate"):
            scores = self._evaluate(parts, solved)
        if self.spec.evaluation.predictions != "none":
            from hpcml.run.predictions import save_run_predictions

            with self.phases("predict"):
                save_run_predictions(self.spec, parts, solved.model, self.directory.predictions)
        result: dict[str, Any] = plain(
            make_result(self.spec, solved, scores) | self._circumstances(parts, family, plan, saver)
        )
        with self.phases("save"), agreed(self.comm):
            if self.comm.rank == 0:
                self._journal.flush()
                save_results(self.directory, self.spec, solved, result, parts.rows)
        return result

    def _solve(self, parts: Parts, plan: Plan, saver: Saver) -> Solved:
        tree = self._checkpoint(plan)
        saver.last_saved = tree["n_iter"] if tree else 0
        if tree:
            self._show(f"attempt {plan.attempt} goes on from iteration {tree['n_iter']}")
        return self._family.solve(Fit(self.spec, parts, saver, tree, self._show))

    def _checkpoint(self, plan: Plan) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, read by every rank, or None for a new run."""
        tree = None
        with agreed(self.comm):
            path = last_checkpoint(self.directory.checkpoints) if plan.resumes else None
            tree = read_checkpoint(path) if path else None
            if self.comm.rank == 0:
                self._journal.cut(tree["n_iter"] if tree else 0)
        return tree

    def _evaluate(self, parts: Parts, solved: Solved) -> Scores:
        metrics, data = self.spec.evaluation.metrics, parts.test or parts.train
        scores = self._family.evaluate(data, solved.model, metrics, "y")
        if parts.test is None:
            scores.notes["rows"] = "there is no test part: the metrics are those of the training rows"
        return scores

    def _peak_bytes(self) -> int:
        """Return the most memory that a rank has had. Collective, one small message."""
        mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # Linux counts KiB
        return int(self.comm.allreduce(np.array([mine]), op="max")[0][0])

    def _circumstances(self, parts: Parts, family: str, plan: Plan, saver: Saver) -> dict[str, Any]:
        """Return the part of result.json that depends on where and how the run went. Collective."""
        hosts = self.comm.allgather(host_name())
        seconds = {name: round(value, 4) for name, value in self.phases.seconds.items()}
        return {
            "n_rows": parts.found.n_rows,
            "n_features": parts.train.n_features,
            "n_ranks": self.comm.size,
            "n_nodes": len(set(hosts)),
            "n_shards": parts.train.partition.n_shards,
            "data_digest": parts.found.digest,
            "cache": parts.place.cache,
            "cache_reason": parts.place.reason,
            "arithmetic": family,
            "kernels": chosen(),
            "attempt": plan.attempt,
            "seconds": {**seconds, "total": round(self.phases.total, 4)},
            "reading": parts.reading(self.comm),
            "peak_bytes": self._peak_bytes(),
            "seconds_checkpoints": round(saver.seconds, 4),
            "messages": {
                "allreduce": self.comm.calls["allreduce"],
                "bytes": self.comm.bytes["allreduce"],
                "seconds": round(self.comm.seconds["allreduce"], 4),
            },
            "run": str(self.directory.path),
        }
