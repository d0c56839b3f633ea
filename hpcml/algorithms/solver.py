"""The one loop that all solvers share: stopping, callbacks, certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from hpcml.algorithms.certificate import Certificate, Reference, certify, estimate, make_reference
from hpcml.algorithms.objective import Objective, Point, Vector

__all__ = ["LEAST_SHARDS", "LoopState", "Progress", "Result", "Solver", "SolverState", "run_solver"]

LEAST_SHARDS = 64
"""Shards from which samples of them can be taken."""


class SolverState(Protocol):
    """What every solver's state has: the current point, and whether it can go on."""

    @property
    def point(self) -> Point:
        """Where the solver stands."""

    @property
    def stuck(self) -> bool:
        """Whether no step improves the objective any more."""


class Solver(Protocol):
    """A method: hyper-parameters, a start and a step. State is a NamedTuple of arrays."""

    @property
    def name(self) -> str:
        """The name in specs and results."""

    @property
    def state_type(self) -> Any:
        """The NamedTuple that a checkpoint is turned back into."""

    def init(self, objective: Objective, w: Vector) -> Any:
        """Return the state at w. Collective."""

    def step(self, objective: Objective, state: Any) -> Any:
        """Return the next state. Collective, one message as a rule."""


class LoopState(NamedTuple):
    """All that resuming needs, the same on every rank."""

    n_iter: int
    threshold: float
    reference: Reference
    solver: Any


class Progress(NamedTuple):
    """What a callback is told after each iteration."""

    loop: LoopState
    objective: float
    gradient_norm: float
    estimate: float

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for a journal. Local."""
        return {
            "objective": self.objective,
            "gradient_norm": self.gradient_norm,
            "certificate_estimate": self.estimate,
        }

    @property
    def sentence(self) -> str:
        """The same for a reader. Local."""
        return f"objective {self.objective:.8f}   certificate about {self.estimate:.1e}"


class Result(NamedTuple):
    """A certified answer.

    Attributes
    ----------
    w : (n_parameters,) array
    n_iter : int
    converged : bool
        The certificate is at most tol.
    reason : str
        Why the loop ended, a sentence.
    objective : float
    certificate : Certificate
        At w.
    timed : bool
        Whether a time limit cut the run: then the bits are not promised.
    loop : LoopState
    """

    w: Vector
    n_iter: int
    converged: bool
    reason: str
    objective: float
    certificate: Certificate
    timed: bool
    loop: LoopState


@dataclass(frozen=True)
class Rules:
    """When to stop.

    Parameters
    ----------
    max_iter : int
    tol : float
        On the certificate.
    stopped : callable
        Says after each iteration, from reduced numbers, whether the time limit has come.
    """

    max_iter: int = 100
    tol: float = 1e-6
    stopped: Callable[[], bool] = field(default=lambda: False)


def _start(objective: Objective, solver: Solver, w: Vector | None) -> LoopState:
    first = objective.first_w
    state = solver.init(objective, first if w is None else w)
    at_first = state.point if w is None else objective.evaluate(first)
    return LoopState(0, float("inf"), make_reference(at_first, objective.start), state)


def _progress(objective: Objective, loop: LoopState) -> Progress:
    point = loop.solver.point
    near = estimate(objective, loop.reference, point)
    return Progress(loop, point.value, float(np.linalg.norm(point.gradient)), near)


def run_solver(
    objective: Objective,
    solver: Solver,
    rules: Rules,
    *,
    w: Vector | None = None,
    loop: LoopState | None = None,
    callback: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Minimise `objective` until its certificate is at most tol.

    Collective: the solver's messages, and those of `certify` when its cheap estimate says that tol is
    reached. All decisions follow reduced numbers. Converged means certified, never that max_iter was reached.

    Parameters
    ----------
    objective : Objective
    solver : Solver
    rules : Rules
    w : (n_parameters,) array, optional
        Where to start; by default weights of zero, and for a log link the best intercept.
    loop : LoopState, optional
        Where an earlier run stood: the answer has the bits of a run that was not interrupted.
    callback : callable
        Told of the start and of each iteration.
    """
    loop = loop or _start(objective, solver, w)
    while True:
        progress = _progress(objective, loop)
        callback(progress)
        end = _end(loop, rules)
        threshold = min(loop.threshold, rules.tol)
        if end or progress.estimate <= threshold:
            point, certificate = certify(objective, loop.reference, loop.solver.point)
            if end or certificate.value <= rules.tol:
                return _result(loop, rules, point, certificate, end)
            # The estimate was too hopeful: ask for that much more before the next try.
            hope = max(rules.tol / certificate.value, 1e-3)
            loop = loop._replace(threshold=0.5 * hope * progress.estimate)
        loop = loop._replace(n_iter=loop.n_iter + 1, solver=solver.step(objective, loop.solver))


def _end(loop: LoopState, rules: Rules) -> str:
    """Return why the loop must end whatever the certificate says, or nothing."""
    if not loop.solver.point.is_finite:
        return "the objective is not finite"
    if loop.solver.stuck:
        return "no step improves the objective: rounding limits the certificate"
    if loop.n_iter and rules.stopped():
        return "the time limit was reached"
    return "max_iter was reached" if loop.n_iter >= rules.max_iter else ""


def _result(loop: LoopState, rules: Rules, point: Point, certificate: Certificate, end: str) -> Result:
    converged = certificate.value <= rules.tol
    reason = f"the certificate is at most tol ({rules.tol:g})" if converged else end
    timed = end.startswith("the time limit")
    return Result(point.w, loop.n_iter, converged, reason, point.value, certificate, timed, loop)
