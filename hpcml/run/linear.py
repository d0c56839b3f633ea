"""Linear models in a run: fitted by the solver of the spec, measured, and their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.choice import choose_solver
from hpcml.algorithms.kernels.passes import raw_prediction
from hpcml.algorithms.linear_model import LinearModel, make_model, make_objective, model_from_arrays
from hpcml.algorithms.metrics import evaluate
from hpcml.algorithms.objective import Objective, Vector
from hpcml.algorithms.solver import LEAST_SHARDS, LoopState, Result, Rules, Solver, run_solver
from hpcml.algorithms.state import from_tree
from hpcml.data import Block
from hpcml.run.families import Family
from hpcml.run.fit import Fit, Solved
from hpcml.run.settings import model_settings, own_solver
from hpcml.spec import Spec

__all__ = ["FAMILY"]


def _solve(fit: Fit) -> Solved:
    """Fit a linear model. Collective."""
    spec, parts, train = fit.spec, fit.parts, fit.parts.train
    classes = parts.found.classes
    settings = model_settings(spec, train.n_features, train.rows.is_sparse, classes, parts.rows.labels)
    objective, asked = make_objective(
        train, settings, parts.found, fit.saver.ballot, parts.scaling, parts.target
    )
    solver, why = choose_solver(spec.solver.name, objective, spec.solver.memory, own_solver(spec))
    fit.show(f"solving with {solver.name} ({why})")
    rules = Rules(spec.solver.max_iter, spec.solver.tol, fit.saver.is_late)
    loop, w, stages = _resumed(solver, fit.tree), None, None
    if loop is None:
        w = _first_w(objective, spec)
        loop, stages = (None, None) if w is not None else _progressive(fit, objective, solver, rules)
    result = run_solver(objective, solver, rules, w=w, loop=loop, callback=fit.saver)
    model = make_model(objective, result.w, settings, classes, asked)
    about = {"alpha": _strength(spec, objective.total_weight), "total_weight": objective.total_weight}
    return _solved(model, solver.name, why, result, {"progressive": stages or []}, about)


def _solved(
    model: LinearModel,
    solver: str,
    why: str,
    result: Result,
    facts: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Solved:
    report = getattr(result.loop.solver, "report", None)
    asynchronous, found = report() if report else None, result.certificate
    return Solved(
        model,
        solver,
        why,
        result.n_iter,
        result.converged,
        result.reason,
        not result.timed and asynchronous is None,
        result.objective,
        found.value,
        {
            "certificate_kind": found.kind,
            "duality_gap": found.gap if found.kind == "duality_gap" else None,
            "intercept_gradient": found.intercept_gradient,
            "asynchronous": asynchronous,
            **facts,
        },
        about,
    )


def _strength(spec: Spec, total_weight: float) -> float | None:
    if spec.model.penalty == "none":
        return 0.0
    return 1 / (spec.model.C * total_weight) if spec.model.C else spec.model.alpha


def _resumed(solver: Solver, tree: Mapping[str, Any] | None) -> LoopState | None:
    if tree is None:
        return None
    loop: LoopState = from_tree(LoopState, tree)
    return loop._replace(solver=from_tree(solver.state_type, loop.solver))


def _first_w(objective: Objective, spec: Spec) -> Vector | None:
    """Return where `solver.start` begins, None for the solver's own start. Collective."""
    if spec.solver.start == "zero":
        return None
    from hpcml.algorithms.local_sgd import local_sgd  # few runs ask for it

    return local_sgd(objective, spec.seed)


def _progressive(
    fit: Fit, objective: Objective, solver: Solver, rules: Rules
) -> tuple[LoopState | None, list[dict[str, int]] | None]:
    """Return a start that samples of the rows led to and its stages, or None. Collective."""
    wanted, seed = fit.spec.solver.progressive, fit.spec.seed
    n_shards, warm = objective.data.partition.n_shards, None
    if wanted is not False and n_shards >= LEAST_SHARDS:
        from hpcml.algorithms.progressive import warm_start

        warm = warm_start(objective, solver, rules, wanted=wanted, seed=seed)
    if warm is None:
        if wanted is True:
            fit.show(f"progressive start: none, samples of {n_shards} shards are too small or of no use")
        return None, None
    shown = ", ".join(f"{stage.n_iter} on {stage.n_rows:,} rows" for stage in warm.stages)
    fit.show(f"progressive start: iterations {shown}")
    return warm.loop, [stage._asdict() for stage in warm.stages]


def _columns(model: LinearModel, block: Block) -> dict[str, NDArray[Any]]:
    """Return the prediction of each row, and what a classifier says besides. Local."""
    z = raw_prediction(block, model.coef, model.intercept)
    columns = {"prediction": model.predicted(z)}
    if model.kind == "linear_svc":
        return {**columns, "decision": z}
    if model.kind != "logistic_regression":
        return columns
    if model.loss.n_outputs > 1:
        return {**columns, "probability": model.loss.terms(z, columns["prediction"]).curvature}
    with np.errstate(over="ignore"):
        return {**columns, "probability": 1.0 / (1.0 + np.exp(-z))}


FAMILY = Family(_solve, evaluate, _columns, model_from_arrays)
