"""Do the parts of a spec fit together? Pure: no data, no MPI."""

from __future__ import annotations

import glob
import hashlib
import json

from hpcml.errors import SpecError
from hpcml.spec import Spec, science

__all__ = ["check_spec", "spec_hash", "warnings_of"]

_SMOOTH = ("gd", "lbfgs", "newton", "newton_cg")


def check_spec(spec: Spec) -> None:
    """Refuse a spec whose parts do not fit together. Local.

    Raises
    ------
    SpecError
        It names the two keys and says why they do not fit.
    """
    _check_model(spec)
    _check_loss(spec)
    _check_tables(spec)
    _check_rows(spec)


def _check_model(spec: Spec) -> None:
    model, name = spec.model, spec.solver.name
    rough = [f"model.penalty: {model.penalty}"] if model.penalty in ("l1", "elasticnet") else []
    rough += [f"model.{key}" for key in ("lower", "upper") if getattr(model, key) is not None]
    if rough and name in _SMOOTH:
        raise SpecError(
            f"solver.name: {name} needs a penalty with a gradient, which {rough[0]} does not have; write "
            "auto, prox_newton or fista"
        )
    unbounded = model.type in ("poisson_regression", "gamma_regression", "tweedie_regression")
    starts = spec.solver.start != "zero"
    if starts and rough:
        raise SpecError(
            f"solver.start: local_sgd needs a penalty with a gradient, which {rough[0]} does not have; write "
            "zero"
        )
    if (starts or name in ("admm", "sgd")) and unbounded:
        key = f"start: {spec.solver.start}" if starts else f"name: {name}"
        raise SpecError(
            f"solver.{key} needs a loss of bounded curvature, which model.type: {model.type} does not "
            f"have; write {'zero' if starts else 'auto'}"
        )
    if name == "gram" and model.type != "linear_regression":
        raise SpecError(f"solver.name: gram is of linear_regression, not {model.type}; write auto")
    target = spec.data.target
    if target is not None and target.threshold is not None and spec.task == "regression":
        raise SpecError("data.target.threshold: makes two classes, which does not fit task: regression")


def _check_loss(spec: Spec) -> None:
    """Refuse a loss without a certificate, unless that is allowed, and what cannot minimise it."""
    model, solver = spec.model, spec.solver
    if model.type != "tweedie_regression" or model.power <= 2:
        return
    if solver.uncertified != "allow":
        raise SpecError(
            f"model.power: {model.power:g} makes a loss that is not convex, so no answer can be certified; "
            "write a power of 0 or in [1, 2], or solver.uncertified: allow"
        )
    if solver.name not in ("auto", "gd", "lbfgs"):
        raise SpecError(
            f"solver.name: {solver.name} needs a convex loss, which model.power: {model.power:g} does not "
            "make; write auto, lbfgs or gd"
        )


def _check_tables(spec: Spec) -> None:
    """Refuse what does not fit tables, or fits nothing else."""
    data = spec.data
    if data.source and data.target is None:
        raise SpecError("data.target: a table (data.source) needs the name of its target column")
    if data.missing != "error" and not data.source:
        raise SpecError(
            f"data.missing: {data.missing} is for tables (data.source); "
            "the rows of an HDF5 file must be complete"
        )
    if data.format not in ("auto", "hdf5", "generated") and not data.source:
        raise SpecError(
            f"data.format: {data.format} is of tables; name them in data.source, and in data.path "
            "the HDF5 file to make from them"
        )


def _check_rows(spec: Spec) -> None:
    data, split = spec.data, spec.data.split
    is_made = bool(data.source) or data.format == "generated"
    if is_made and (len(data.path) > 1 or glob.has_magic(str(data.path[0]))):
        raise SpecError("data.path: names one file where it is made from data.source or data.generate")
    if data.io.driver == "mpio" and data.cache == "scratch":
        raise SpecError("data.io.driver: mpio reads files in place; write another data.cache than scratch")
    if spec.evaluation.predictions == "test" and (split.method == "none" or split.test == 0.0):
        raise SpecError(
            "evaluation.predictions: test needs test rows, and data.split leaves none; write all, or a "
            "data.split.test above 0"
        )


def warnings_of(spec: Spec) -> list[str]:
    """Return what is allowed but probably not meant. Local."""
    found = []
    if spec.data.split.method == "none":
        found.append(
            "data.split.method: none leaves no test rows: metrics will be those of the training rows"
        )
    if spec.model.penalty == "none" and (
        spec.model.C is not None or spec.model.alpha not in (None, 0.0, 1e-4)
    ):
        found.append("model.penalty: none ignores model.alpha and model.C")
    if spec.output.overwrite == "always":
        found.append("output.overwrite: always replaces whatever run is in output.dir")
    return found


def spec_hash(spec: Spec) -> str:
    """Return the digest of the part of the spec that decides the answer. Local."""
    text = json.dumps(science(spec), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
