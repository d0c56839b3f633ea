"""Principal components and singular vectors in a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.decompose import DecompositionSettings, decompose
from hpcml.algorithms.decomposition.model import ComponentsModel, components_from_arrays
from hpcml.algorithms.decomposition.randomized import LoopState
from hpcml.algorithms.kernels.rows import pieces
from hpcml.algorithms.metrics import Scores
from hpcml.algorithms.reduction import reduce_blocks
from hpcml.algorithms.state import from_tree
from hpcml.data import Block, Dataset
from hpcml.run.families import Family
from hpcml.run.fit import Fit, Solved
from hpcml.spec import Spec

__all__ = ["FAMILY"]


def _solve(fit: Fit) -> Solved:
    """Find components. Collective."""
    found = decompose(
        fit.parts.train,
        _settings(fit.spec),
        loop=from_tree(LoopState, fit.tree) if fit.tree else None,
        callback=fit.saver,
        stopped=fit.saver.is_late,
        ballot=fit.saver.ballot,
    )
    fit.show(f"solved with {found.method} ({found.reason})")
    if found.warning:
        fit.show(f"hpcml: warning: {found.warning}")
    variance = float(found.explained_variance_ratio.sum())
    facts = {
        "certificate_kind": "residual",
        "n_components": len(found.components),
        "explained_variance_ratio": found.explained_variance_ratio.tolist(),
        "singular_values": found.singular_values.tolist(),
        "warning": found.warning or None,
    }
    return Solved(
        ComponentsModel(fit.spec.model.type, found, fit.spec.model.whiten),
        found.method,
        found.reason,
        max(found.n_iter, 1),
        found.residual <= fit.spec.solver.tol,
        found.end,
        not found.timed,
        variance,
        found.residual,
        facts,
    )


def _settings(spec: Spec) -> DecompositionSettings:
    n = spec.model.n_components
    wanted = n if n is None or n < 1 else int(n)
    model = spec.model
    return DecompositionSettings(
        wanted,
        model.type == "pca",
        model.svd_solver,
        model.n_iter,
        seed=spec.seed,
        tol=spec.solver.tol,
        max_iter=spec.solver.max_iter,
    )


def _evaluate(data: Dataset, model: ComponentsModel, metrics: Sequence[str], name: str) -> Scores:
    """Return the share of the rows' squares about the mean that the components hold. Collective, one pass."""

    def statistics(block: Block) -> Iterator[NDArray[np.float64]]:
        yield block.shard_sums(_squares(model, block) * block.weights[:, None])

    held, whole = reduce_blocks(data, statistics, 2).total
    share = float(held / whole) if whole > 0 else 0.0
    return Scores(dict.fromkeys(metrics, share), data.n_samples, {})


def _squares(model: ComponentsModel, block: Block) -> NDArray[np.float64]:
    """Return ``|C (x - mean)|^2`` and ``|x - mean|^2`` of each row, (rows, 2)."""
    found = np.empty((block.n_rows, 2))
    for piece in pieces(block):
        X = piece.X if isinstance(piece.X, np.ndarray) else piece.X.toarray()
        moved = X - model.found.mean
        found[piece.rows, 0] = np.square(moved @ model.found.components.T).sum(axis=1)
        found[piece.rows, 1] = np.square(moved).sum(axis=1)
    return found


def _columns(model: ComponentsModel, block: Block) -> dict[str, NDArray[Any]]:
    """Return the coordinates of each row, (rows, k). Local."""
    return {"prediction": model.transform(block)}


FAMILY = Family(_solve, _evaluate, _columns, components_from_arrays)
