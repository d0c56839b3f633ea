"""Which solver: by name, or by the data and the spec alone."""

from __future__ import annotations

from hpcml.algorithms.gradient_descent import GradientDescent
from hpcml.algorithms.lbfgs import LBFGS
from hpcml.algorithms.nesterov import Nesterov
from hpcml.algorithms.newton import NewtonCholesky
from hpcml.algorithms.solver import Solver
from hpcml.errors import SpecError

__all__ = ["NEEDS_CONVEX", "SOLVERS", "choose_solver"]

SOLVERS = ("gd", "nesterov", "lbfgs", "newton")
NEEDS_CONVEX = ("nesterov", "newton")
_NEWTON_FEATURES = 1000


def choose_solver(name: str, n_features: int, memory: int = 10, *, convex: bool = True) -> tuple[Solver, str]:
    """Return a solver and the reason for it. Local; nothing of the machine decides.

    ``auto`` takes Newton's method up to 1,000 features: its message has d^2 / 2 sums and its steps cost
    d^3 / 3 operations, and it needs a tenth of the passes of L-BFGS. A loss that is not convex leaves
    L-BFGS and gradient descent, whose steps go downhill whatever the curvature.

    Raises
    ------
    SpecError
        The solver was asked for by name, and needs a convex loss.
    """
    solvers: dict[str, Solver] = {
        "gd": GradientDescent(),
        "nesterov": Nesterov(),
        "lbfgs": LBFGS(memory),
        "newton": NewtonCholesky(),
    }
    if not convex and name in NEEDS_CONVEX:
        raise SpecError(f"solver {name} needs a convex loss; take auto, lbfgs or gd")
    if name != "auto":
        return solvers[name], "asked for"
    if not convex:
        return solvers["lbfgs"], "auto: the loss is not convex"
    if n_features <= _NEWTON_FEATURES:
        return solvers["newton"], f"auto: {n_features} features are few enough for the Hessian"
    return solvers["lbfgs"], f"auto: {n_features} features are too many for the Hessian"
