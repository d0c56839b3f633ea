"""The result of a run, and the files that hold it."""

from __future__ import annotations

from typing import Any

from hpcml import __version__
from hpcml.algorithms.metrics import Scores
from hpcml.io.model import write_model
from hpcml.io.read.table import HDF5Table
from hpcml.run.directory import RunDirectory
from hpcml.run.fit import Solved
from hpcml.spec import Spec, resolved

__all__ = ["make_result", "save_results"]


def make_result(spec: Spec, solved: Solved, scores: Scores) -> dict[str, Any]:
    """Return the part of result.json that is the same for any number of ranks, where a fit is. Local."""
    return {
        "name": spec.name,
        "model_digest": solved.model.digest if solved.deterministic else None,
        "objective": solved.objective,
        "certificate": solved.certificate,
        "tol": spec.solver.tol,
        "converged": solved.converged,
        "reason": solved.reason,
        "deterministic": solved.deterministic,
        "n_iter": solved.n_iter,
        "solver": solved.solver,
        "solver_reason": solved.why,
        **solved.facts,
        "metrics": scores.metrics,
        "primary": spec.evaluation.primary,
        "notes": scores.notes,
        "n_test_rows": scores.n_rows,
    }


def _write_model(directory: RunDirectory, spec: Spec, solved: Solved, rows: HDF5Table) -> None:
    about = {
        "kind": solved.model.kind,
        "digest": solved.model.digest,
        "hpcml": __version__,
        "name": spec.name,
        "feature_names": rows.feature_names,
        "labels": rows.labels,
        **solved.about,
        "objective": solved.objective,
        "reason": solved.reason,
        "n_iter": solved.n_iter,
        "converged": solved.converged,
        "certificate": solved.certificate,
        "spec": resolved(spec),
    }
    write_model(directory.model, solved.model.arrays(), about)


def save_results(
    directory: RunDirectory,
    spec: Spec,
    solved: Solved,
    result: dict[str, Any],
    rows: HDF5Table,
) -> None:
    """Write model, result and, last, the manifest. Local: one process calls it."""
    if spec.output.model:
        _write_model(directory, spec, solved, rows)
    directory.write_json("result.json", result)
    directory.finish()
