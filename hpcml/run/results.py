"""The result of a run, and the files that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcml import __version__
from hpcml.algorithms.linear_model import LinearModel
from hpcml.algorithms.metrics import Scores
from hpcml.algorithms.solver import Result
from hpcml.io.model import write_model
from hpcml.io.read.table import HDF5Table
from hpcml.run.directory import RunDirectory
from hpcml.spec import Spec, resolved

__all__ = ["Solved", "make_result", "save_results", "write_linear_model"]


@dataclass(frozen=True)
class Solved:
    """A fit's answer and how it was reached; the weight of all rows is that in the objective."""

    model: LinearModel
    result: Result
    solver: str
    why: str
    total_weight: float


def make_result(spec: Spec, solved: Solved, scores: Scores) -> dict[str, Any]:
    """Return the part of result.json that is the same for any number of ranks, where a fit is. Local."""
    result = solved.result
    report = getattr(result.loop.solver, "report", None)
    asynchronous = report() if report else None
    deterministic = not result.timed and asynchronous is None
    found = result.certificate
    return {
        "name": spec.name,
        "model_digest": solved.model.digest if deterministic else None,
        "objective": result.objective,
        "certificate": found.value,
        "certificate_kind": found.kind,
        "duality_gap": found.gap if found.kind == "duality_gap" else None,
        "intercept_gradient": found.intercept_gradient,
        "tol": spec.solver.tol,
        "converged": result.converged,
        "reason": result.reason,
        "deterministic": deterministic,
        "asynchronous": asynchronous,
        "n_iter": result.n_iter,
        "solver": solved.solver,
        "solver_reason": solved.why,
        "metrics": scores.metrics,
        "primary": spec.evaluation.primary,
        "notes": scores.notes,
        "n_test_rows": scores.n_rows,
    }


def write_linear_model(directory: RunDirectory, spec: Spec, solved: Solved, rows: HDF5Table) -> None:
    """Write model.h5. Local: one process calls it."""
    model = solved.model
    alpha = 0.0 if spec.model.penalty == "none" else spec.model.alpha
    about = {
        "kind": model.kind,
        "digest": model.digest,
        "hpcml": __version__,
        "name": spec.name,
        "feature_names": rows.feature_names,
        "labels": rows.labels,
        "alpha": 1 / (spec.model.C * solved.total_weight) if alpha is None and spec.model.C else alpha,
        "total_weight": solved.total_weight,
        "objective": solved.result.objective,
        "reason": solved.result.reason,
        "n_iter": solved.result.n_iter,
        "converged": solved.result.converged,
        "certificate": solved.result.certificate.value,
        "spec": resolved(spec),
    }
    write_model(directory.model, model.arrays(), about)


def save_results(
    directory: RunDirectory,
    spec: Spec,
    solved: Solved,
    result: dict[str, Any],
    rows: HDF5Table,
) -> None:
    """Write model, result and, last, the manifest. Local: one process calls it."""
    if spec.output.model:
        write_linear_model(directory, spec, solved, rows)
    directory.write_json("result.json", result)
    directory.finish()
