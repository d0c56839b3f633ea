"""Do the parts of a spec fit together? Pure: no data, no MPI."""

from __future__ import annotations

import glob
import hashlib
import json

from hpcml.errors import SpecError
from hpcml.spec import Spec, science

__all__ = ["check_spec", "spec_hash", "warnings_of"]

_SMOOTH = ("gd", "lbfgs", "newton", "newton_cg")
_UNBOUNDED = ("poisson_regression", "gamma_regression", "tweedie_regression")


def check_spec(spec: Spec) -> None:
    """Refuse a spec whose parts do not fit together. Local.

    Raises
    ------
    SpecError
        It names the two keys and says why they do not fit.
    """
    _check_model(spec)
    _check_loss(spec)
    _check_curvature(spec)
    _check_tables(spec)
    _check_rows(spec)
    _check_exposure(spec)


def _check_model(spec: Spec) -> None:
    model, name = spec.model, spec.solver.name
    rough = [f"model.penalty: {model.penalty}"] if model.penalty in ("l1", "elasticnet") else []
    rough += [f"model.{key}" for key in ("lower", "upper") if getattr(model, key) is not None]
    if rough and name in _SMOOTH:
        raise SpecError(
            f"solver.name: {name} needs a penalty with a gradient, which {rough[0]} does not have; write "
            "auto, prox_newton or fista"
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


def _check_curvature(spec: Spec) -> None:
    """Refuse what needs a bound on the curvature of the loss where there is none."""
    kind, solver = spec.model.type, spec.solver
    if solver.progressive is True and solver.name in ("admm", "gram"):
        raise SpecError(
            f"solver.progressive: solver.name: {solver.name} cannot start on samples; leave it out"
        )
    is_joint = kind == "huber_regression" and spec.model.scale == "joint"
    is_constant = solver.name == "gd" and solver.step == "constant"
    key = "solver.step: constant" if is_constant else f"solver.name: {solver.name}"
    cure = "auto, bb or armijo" if is_constant else "auto"
    if is_joint and solver.name in ("newton_cg", "admm", "async_admm", "sgd"):
        raise SpecError(f"{key} cannot fit model.scale: joint; write {cure}, or a number for model.scale")
    if (is_constant or solver.name in ("admm", "async_admm", "sgd")) and (is_joint or kind in _UNBOUNDED):
        raise SpecError(
            f"{key} needs a loss of bounded curvature, which model.type: {kind} does not have; write {cure}"
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


def _check_exposure(spec: Spec) -> None:
    model = spec.model
    has_log_link = model.type in ("poisson_regression", "gamma_regression") or (
        model.type == "tweedie_regression" and model.power > 0
    )
    if spec.data.exposure is not None and not has_log_link:
        raise SpecError(
            f"data.exposure: needs a model of the logarithm of the mean, which model.type: {model.type} is "
            "not; write data.offset for what is to be added as it is"
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
