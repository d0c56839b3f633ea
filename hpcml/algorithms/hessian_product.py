"""Products of the Hessian with vectors, without the Hessian."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.passes import hessian_product, raw_prediction
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.data import Block

__all__ = ["HessianProduct", "make_hessian_product"]


@dataclass
class HessianProduct:
    """``H v = (1 / sum s) sum s h [u, 1] ([u, 1] . v) + diag(l2, 0) v`` at one point.

    Parameters
    ----------
    objective : Objective
    curvatures : dict of int to (rows,) array
        ``s h`` of this process's rows, by the first row of their run; 8 bytes a row. For a softmax the
        probabilities, (rows, k).
    """

    objective: Objective
    curvatures: dict[int, Vector]
    _window: NDArray[np.int64] | None = field(default=None, repr=False)

    def __call__(self, v: Vector) -> Vector:
        """Return H v, (n_parameters,). Collective, one pass and one message (two the first time)."""
        objective = self.objective
        # The sums of directions that become short would leave the window.
        size = 2.0 ** float(np.frexp(np.abs(v).max(initial=0.0))[1])
        coef, intercept = objective.to_raw(v / size)

        def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
            return hessian_product(block, self.curvatures[block.start], coef, intercept)

        reduced = reduce_blocks(
            objective.data, statistics, objective.n_sums(), window=self._window, ballot=objective.ballot
        )
        self._window = reduced.window
        sums = reduced.total * (size / objective.total_weight)
        return np.asarray(objective.scaled(sums[1:]) + objective.whole_penalty.l2 * v)


def make_hessian_product(objective: Objective, w: Vector) -> HessianProduct:
    """Return the products at w. Local, one pass."""
    coef, intercept = objective.to_raw(w)
    curvatures = {
        block.start: objective.curvature(block, raw_prediction(block, coef, intercept))
        for block in objective.data.blocks()
    }
    return HessianProduct(objective, curvatures)
