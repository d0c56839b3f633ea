"""Which solver can minimise which loss with which penalty. Knows no NumPy, so that a spec is soon refused."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ON_SAMPLES", "Facts", "misfit"]

ON_SAMPLES = ("gd", "nesterov", "fista", "lbfgs", "newton", "newton_cg", "prox_newton")
"""Solvers that can start on samples; the others take few passes, or keep a state for each shard."""
_SMOOTH = ("gd", "lbfgs", "newton", "newton_cg", "local_sgd")
"""What needs a penalty with a gradient."""
_BOUNDED = ("admm", "async_admm", "sgd", "local_sgd", "constant")
"""What needs a largest curvature of the loss."""
_ANY_LOSS = ("gd", "lbfgs", "constant")
"""What goes downhill whatever the curvature of the loss."""
_MANY_OUTPUTS = ("gd", "nesterov", "fista", "lbfgs", "newton_cg", "constant")
"""What does without the whole Hessian, which is built for a loss of one output alone, and sums of several."""
_BY_ROWS = ("newton_cg",)
"""What needs a Hessian that is a sum over rows."""
_CURES = {"local_sgd": "zero", "constant": "bb or armijo"}


class Facts(NamedTuple):
    """What decides whether a solver can minimise a loss.

    Attributes
    ----------
    name : str
    is_squared : bool
    is_bounded : bool
        There is a largest curvature.
    is_convex : bool
    is_joint : bool
        A scale is fitted too.
    n_outputs : int
    """

    name: str
    is_squared: bool = False
    is_bounded: bool = True
    is_convex: bool = True
    is_joint: bool = False
    n_outputs: int = 1


def misfit(name: str, loss: Facts, *, is_smooth: bool) -> str:
    """Return why a solver cannot minimise a loss with a penalty, in words after its name, or nothing. Local.

    Parameters
    ----------
    name : str
        Of a solver; or ``local_sgd``, a start, or ``constant``, a step of gd.
    loss : Facts
    is_smooth : bool
        The penalty has a gradient.
    """
    cure = _CURES.get(name, "auto")
    if name in _SMOOTH and not is_smooth:
        others = f"prox_newton, fista or {cure}" if cure == "auto" else cure
        return f"needs a penalty with a gradient, and l1 strengths and bounds have none; take {others}"
    if name == "gram" and not loss.is_squared:
        return f"is for the squared loss, and the loss is {loss.name}; take {cure}"
    if name in _BY_ROWS and loss.is_joint:
        return "cannot fit a joint scale; take auto, newton or lbfgs, or give the scale"
    if name in _BOUNDED and not loss.is_bounded:
        return f"needs a loss of bounded curvature, and the loss is {loss.name}; take {cure}"
    if name not in _ANY_LOSS and not loss.is_convex:
        return f"needs a convex loss, and the loss is {loss.name}; take auto, lbfgs or gd"
    if name not in _MANY_OUTPUTS and loss.n_outputs > 1:
        others = f"lbfgs, newton_cg, fista or {cure}" if cure == "auto" else cure
        return f"does not take the {loss.name} loss of {loss.n_outputs} classes; take {others}"
    return ""
