"""Start a fit on growing samples, so that few passes go over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hpcml.algorithms.certificate import Reference, estimate, make_reference
from hpcml.algorithms.losses import Squared
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.pairs import ON_SAMPLES
from hpcml.algorithms.sampled_objective import over_shards
from hpcml.algorithms.solver import LEAST_SHARDS, LoopState, Rules, Solver
from hpcml.data.sampled import shuffled_shards

__all__ = ["Stage", "Warm", "pays", "warm_start"]

_GROWTH = 16
_ROWS_PER_PARAMETER = 20
_GAINS = ("newton", "newton_cg", "lbfgs")
_GAINING_ROWS = 4096
_GAINING_NUMBERS = 1 << 22


class Stage(NamedTuple):
    """Work on one sample: its rows, and the iterations on it."""

    n_rows: int
    n_iter: int


class Warm(NamedTuple):
    """Where a fit over all rows starts, and how that was found."""

    loop: LoopState
    stages: tuple[Stage, ...]


def pays(objective: Objective, solver: Solver) -> bool:
    """Tell whether a start on samples saves passes, by data and spec alone. Local.

    It was measured to do so for newton_cg, for newton of those with the Hessian, and for lbfgs nearly always,
    where the last sample has some hundred rows for each parameter. Below 2^22 numbers in X there is nothing
    to save, and least squares take one step anyway.
    """
    data, p = objective.data, objective.n_parameters
    is_long = data.n_samples >= _GAINING_ROWS * p and data.n_samples * data.n_features >= _GAINING_NUMBERS
    return is_long and solver.name in _GAINS and not isinstance(objective.loss, Squared)


def warm_start(
    objective: Objective, solver: Solver, rules: Rules, *, wanted: bool | str = "auto", seed: int = 0
) -> Warm | None:
    """Return where samples lead, or None where they are not wanted, too small or of no use.

    Collective: passes over samples alone, of a 16th, a 256th, ... of the shards, each 16 times the one before
    and holding it; then two over all rows, the solver's at the new start and that at the usual one, which
    certificates are relative to. A sample is left when the certificate's estimate falls below its
    statistical accuracy, ``p / n`` with p parameters and n rows: what lies below fits the sample, not the
    rows. Samples are keyed by the seed and the shards' numbers: the start has the same bits on any number
    of ranks. It is refused where the objective is not below that at the usual one.

    Parameters
    ----------
    objective : Objective
    solver : Solver
    rules : Rules
    wanted : bool or "auto"
        auto is where it `pays`.
    seed : int

    References
    ----------
    Mokhtari and Ribeiro, "First-order adaptive sample size methods to reduce complexity of empirical risk
    minimization", NeurIPS 2017.
    """
    if solver.name not in ON_SAMPLES or not (pays(objective, solver) if wanted == "auto" else wanted):
        return None
    on_samples = _on_samples(objective, solver, rules, seed)
    if on_samples is None:
        return None
    last, stages = on_samples
    state = _begun(solver, objective, last.point.w, last)
    usual = objective.evaluate(objective.first_w)
    reference = make_reference(usual, objective.start)
    loop = LoopState(0, float("inf"), reference, state)
    return Warm(loop, stages) if state.point.value < usual.value else None


def _on_samples(
    objective: Objective, solver: Solver, rules: Rules, seed: int
) -> tuple[Any, tuple[Stage, ...]] | None:
    """Return the solver's state on the last sample, and the stages up to it, or None. Collective."""
    last, reference, stages = None, None, []
    for sample in _samples(objective, seed):
        state = _begun(solver, sample, objective.first_w if last is None else last.point.w, last)
        reference = reference or make_reference(state.point, objective.start)
        last, n_iter = _improved(sample, solver, state, reference, rules)
        if not last.point.is_finite:
            return None
        stages.append(Stage(sample.data.n_samples, n_iter))
    return None if last is None else (last, tuple(stages))


def _begun(solver: Solver, objective: Objective, w: Vector, last: Any) -> Any:
    """Return the solver's state at w, with what it learnt on a smaller sample."""
    grown = getattr(solver, "grown", None)
    return solver.init(objective, w) if last is None or grown is None else grown(objective, w, last)


def _improved(
    sample: Objective, solver: Solver, state: Any, reference: Reference, rules: Rules
) -> tuple[Any, int]:
    """Return the state within the sample's accuracy, and the iterations to it."""
    enough = max(sample.n_parameters / sample.data.n_samples, rules.tol)
    for n_iter in range(rules.max_iter):
        is_good = estimate(sample, reference, state.point) <= enough
        if is_good or state.stuck or not state.point.is_finite or rules.stopped():
            return state, n_iter
        state = solver.step(sample, state)
    return state, rules.max_iter


def _samples(objective: Objective, seed: int) -> Iterator[Objective]:
    """Yield the objective over growing samples. Collective, a pass over each and two messages."""
    order = shuffled_shards(objective.data.partition, seed)
    sizes, size = [], order.size // _GROWTH
    while size >= LEAST_SHARDS // _GROWTH:
        sizes.append(size)
        size //= _GROWTH
    for size in reversed(sizes):
        sample = over_shards(objective, order[:size])
        is_long = sample.data.n_samples >= _ROWS_PER_PARAMETER * objective.n_parameters
        if is_long and sample.total_weight > 0:
            yield sample
