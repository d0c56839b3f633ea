"""Which solver: by name, or by the data and the spec alone."""

from __future__ import annotations

from hpcml.algorithms.gradient_descent import GradientDescent
from hpcml.algorithms.lbfgs import LBFGS
from hpcml.algorithms.nesterov import Nesterov
from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.solver import Solver

__all__ = ["SOLVERS", "choose_solver"]

SOLVERS = ("gd", "nesterov", "lbfgs", "newton")
_NEWTON_FEATURES = 1000


def choose_solver(name: str, n_features: int, memory: int = 10) -> tuple[Solver, str]:
    """Return a solver and the reason for it. Local; nothing of the machine decides.

    ``auto`` takes Newton's method up to 1,000 features: its message has d^2 / 2 sums and its steps cost
    d^3 / 3 operations, and it needs a tenth of the passes of L-BFGS.
    """
    solvers: dict[str, Solver] = {
        "gd": GradientDescent(),
        "nesterov": Nesterov(),
        "lbfgs": LBFGS(memory),
        "newton": NewtonCholesky(),
    }
    if name != "auto":
        return solvers[name], "asked for"
    if n_features <= _NEWTON_FEATURES:
        return solvers["newton"], f"auto: {n_features} features are few enough for the Hessian"
    return solvers["lbfgs"], f"auto: {n_features} features are too many for the Hessian"
