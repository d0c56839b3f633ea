"""Which solver: by name, or by the data and the spec alone."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from hpcml.algorithms.losses import JointHuber, Loss, Squared
from hpcml.algorithms.objective import Objective
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
_SMOOTH = ("gd", "lbfgs", "newton", "newton_cg")
"""Solvers that need a penalty with a gradient."""
_ANY_LOSS = ("gd", "lbfgs")
"""Solvers whose steps go downhill whatever the curvature of the loss."""
_MANY_OUTPUTS = ("gd", "nesterov", "fista", "lbfgs", "newton_cg")
"""Solvers that do without the whole Hessian, which is built for a loss of one output alone."""
_BY_ROWS = ("newton_cg",)
"""Solvers that need a Hessian which is a sum over rows."""
_BOUNDED = ("admm", "async_admm", "sgd")
"""Solvers that need a largest curvature of the loss."""
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
    sentence = ""
    if name in _SMOOTH and not penalty.is_smooth:
        sentence = (
            f"solver {name} needs a penalty with a gradient, and l1 strengths and bounds have none: take "
            "prox_newton, nesterov or auto"
        )
    elif name == "gram" and not isinstance(loss, Squared):
        sentence = f"solver gram is for the squared loss, and the loss is {loss.name}"
    elif name in _BOUNDED and not math.isfinite(loss.max_curvature):
        sentence = f"solver {name} needs a loss of bounded curvature, and the loss is {loss.name}; take auto"
    elif loss.n_outputs > 1 and name not in _MANY_OUTPUTS:
        sentence = (
            f"solver {name} needs the whole Hessian, which is not built for the {loss.name} loss of "
            f"{loss.n_outputs} classes: take lbfgs, newton_cg, fista or auto"
        )
    elif name in _BY_ROWS and isinstance(loss, JointHuber):
        sentence = f"solver {name} cannot fit a joint scale; take auto, newton or lbfgs, or give the scale"
    elif name not in _ANY_LOSS and not loss.is_convex:
        sentence = f"solver {name} needs a convex loss; take auto, lbfgs or gd"
    if sentence:
        raise shared(SpecError(sentence))


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
