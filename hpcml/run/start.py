"""Where the fit of a run starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.objective import Objective
from hpcml.spec import Spec

__all__ = ["first_w"]


def first_w(spec: Spec, objective: Objective) -> NDArray[np.float64] | None:
    """Return the w that `solver.start` asks for, None for the solver's own. Collective where it is asked for.

    Raises
    ------
    SpecError
        The loss or the penalty is not for it.
    """
    if spec.solver.start == "zero":
        return None
    from hpcml.algorithms.local_sgd import local_sgd  # few runs ask for it

    return local_sgd(objective, spec.seed)
