"""Which solver: by name, or by the data and the spec alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hpcml.algorithms.losses import JointHuber, Loss, Squared
from hpcml.algorithms.losses.kinds import facts_of
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.pairs import misfit
from hpcml.algorithms.penalties import Penalty
from hpcml.algorithms.solver import Solver
from hpcml.errors import SpecError, shared

__all__ = ["SOLVERS", "choose_solver", "make_solver"]

_HOMES = {
    "gd": "gradient_descent:GradientDescent",
    "nesterov": "nesterov:Nesterov",
    "fista": "nesterov:Nesterov",
    "lbfgs": "lbfgs:LBFGS",
    "newton": "newton:NewtonCholesky",
    "newton_cg": "newton_cg:NewtonCG",
    "prox_newton": "proximal_newton:ProximalNewton",
    "gram": "gram:Gram",
    "admm": "admm:ADMM",
    "async_admm": "async_admm:AsyncADMM",
    "sgd": "sgd:SGD",
}
"""Module and class of each solver: a rank opens the files of its own alone."""
SOLVERS = tuple(_HOMES)
_HESSIAN_FEATURES = 1000


def choose_solver(
    name: str, objective: Objective, memory: int = 10, given: Solver | None = None
) -> tuple[Solver, str]:
    """Return a solver and the reason for it. Local; nothing of the machine decides.

    `given` is the solver of this name with settings of its own.

    ``auto`` takes Newton's method up to 1,000 features: its message has d^2 / 2 sums and its steps cost
    d^3 / 3 operations, and it needs a tenth of the passes of L-BFGS; above it lets conjugate gradients solve
    Newton's equations, a third of the passes. With an l1 strength or bounds it takes the Gram matrix for a
    squared loss up to 1,000 features, else the proximal Newton method; L-BFGS for a loss that is not convex.

    Raises
    ------
    SpecError
        The solver cannot minimise this loss with this penalty.
    """
    if name != "auto":
        _check_pair(name, objective.loss, objective.penalty)
        return given or make_solver(name, memory), "asked for"
    chosen, why = _chosen(objective.data.n_features, objective.loss, objective.penalty)
    _check_pair(chosen, objective.loss, objective.penalty)
    return make_solver(chosen, memory), f"auto: {why}"


def make_solver(name: str, memory: int = 10) -> Solver:
    """Return the solver of this name, with the pairs of L-BFGS. Local."""
    module, kind = _HOMES[name].split(":")
    solver = getattr(import_module(f"hpcml.algorithms.{module}"), kind)
    settings: dict[str, dict[str, Any]] = {"lbfgs": {"memory": memory}, "fista": {"name": "fista"}}
    chosen: Solver = solver(**settings.get(name, {}))
    return chosen


def _check_pair(name: str, loss: Loss, penalty: Penalty) -> None:
    """Refuse what cannot work, by name."""
    sentence = misfit(name, facts_of(loss), is_smooth=penalty.is_smooth)
    if sentence:
        raise shared(SpecError(f"solver {name} {sentence}"))


def _chosen(d: int, loss: Loss, penalty: Penalty) -> tuple[str, str]:
    is_few = d <= _HESSIAN_FEATURES
    count = f"{d} features are {'few enough' if is_few else 'too many'} for the"
    if not loss.is_convex:
        return "lbfgs", "the loss is not convex"
    if loss.n_outputs > 1:
        why = f"the Hessian of {loss.n_outputs} classes is not built"
        return ("newton_cg", why) if penalty.is_smooth else ("fista", f"{why}, and the penalty is rough")
    if not is_few and isinstance(loss, JointHuber):
        return "lbfgs" if penalty.is_smooth else "prox_newton", "the scale is fitted too"
    if penalty.is_smooth:
        return ("newton" if is_few else "newton_cg"), f"{count} Hessian"
    if isinstance(loss, Squared) and is_few:
        return "gram", f"the loss is squared and {count} Gram matrix"
    return "prox_newton", "the penalty makes weights zero or bounds them"
