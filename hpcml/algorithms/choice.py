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
_HESSIAN_FEATURES = 200
"""Up to which Hessians of a few iterations cost no more than the products of conjugate gradients."""
_GRAM_FEATURES = 1000
"""Up to which one Hessian, the only one of least squares, costs no more than many passes."""


def choose_solver(
    name: str, objective: Objective, memory: int = 10, given: Solver | None = None
) -> tuple[Solver, str]:
    """Return a solver and the reason for it. Local; nothing of the machine decides.

    `given` is the solver of this name with settings of its own.

    ``auto`` takes Newton's method up to 200 features. A pass with the Hessian costs about d / 10 passes
    without, whatever the number of rows, and about as many products take the place of it: fewer where columns
    are independent, more where they are nearly dependent. Above it conjugate gradients solve Newton's
    equations, for a joint scale L-BFGS. The limit was measured to be nearly the same for CSR. With an l1
    strength or bounds ``auto`` takes the Gram matrix for a squared loss up to 1,000 features, which is one
    pass with a Hessian in all, else the proximal Newton method; L-BFGS for a loss that is not convex.

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
    if not loss.is_convex:
        return "lbfgs", "the loss is not convex"
    if loss.n_outputs > 1:
        why = f"the Hessian of {loss.n_outputs} classes is not built"
        return ("newton_cg", why) if penalty.is_smooth else ("fista", f"{why}, and the penalty is rough")
    if penalty.is_smooth:
        if d <= _HESSIAN_FEATURES:
            return "newton", f"{d} features are few enough for the Hessian"
        if isinstance(loss, JointHuber):
            return "lbfgs", "the scale is fitted too"
        return "newton_cg", f"{d} features are too many for the Hessian"
    if isinstance(loss, Squared) and d <= _GRAM_FEATURES:
        return "gram", f"the loss is squared and {d} features are few enough for the Gram matrix"
    return "prox_newton", "the penalty makes weights zero or bounds them"
