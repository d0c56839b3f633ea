"""Do the parts of a spec fit together? Pure: no data, no MPI."""

from __future__ import annotations

import glob
import hashlib
import json

from hpcml.algorithms.pairs import ON_SAMPLES, Facts, misfit
from hpcml.errors import SpecError
from hpcml.spec import Solver, Spec, science
from hpcml.spec.schema_model import UNLABELLED

__all__ = ["check_spec", "spec_hash", "warnings_of"]


def check_spec(spec: Spec) -> None:
    """Refuse a spec whose parts do not fit together. Local.

    Raises
    ------
    SpecError
        It names the two keys and says why they do not fit.
    """
    if spec.task in UNLABELLED:
        _check_unlabelled(spec)
    else:
        _check_model(spec)
        _check_solver(spec)
        _check_labelled(spec)
    _check_tables(spec)
    _check_rows(spec)
    _check_exposure(spec)


def _check_model(spec: Spec) -> None:
    model, target = spec.model, spec.data.target
    if target is not None and target.threshold is not None and spec.task == "regression":
        raise SpecError("data.target.threshold: makes two classes, which does not fit task: regression")
    if not _facts(spec).is_convex and spec.solver.uncertified != "allow":
        raise SpecError(
            f"model.power: {model.power:g} makes a loss that is not convex, so no answer can be certified; "
            "write a power of 0 or in [1, 2], or solver.uncertified: allow"
        )


def _facts(spec: Spec) -> Facts:
    """Return what the loss is like, as far as the spec says: of a classifier that of two classes."""
    model, kind = spec.model, spec.model.type
    is_joint = kind == "huber_regression" and isinstance(model.scale, str)
    is_squared = kind == "linear_regression" or (kind == "tweedie_regression" and model.power == 0)
    is_convex = kind != "tweedie_regression" or model.power <= 2
    is_bounded = not is_joint and not _has_log_link(spec)
    return Facts(f"that of {kind}", is_squared, is_bounded, is_convex, is_joint)


def _has_log_link(spec: Spec) -> bool:
    kind = spec.model.type
    is_tweedie = kind == "tweedie_regression" and spec.model.power > 0
    return is_tweedie or kind in ("poisson_regression", "gamma_regression")


def _check_solver(spec: Spec) -> None:
    """Refuse a solver, a step and a start that cannot minimise this loss with this penalty."""
    model, solver = spec.model, spec.solver
    is_smooth = model.penalty in ("none", "l2") and model.lower is None and model.upper is None
    asked = [("name", solver.name, "auto"), ("start", solver.start, "zero")]
    asked += [("step", "constant", "auto")] if solver.step == "constant" else []
    for key, value, plain in asked:
        sentence = misfit(value, _facts(spec), is_smooth=is_smooth) if value != plain else ""
        if sentence:
            raise SpecError(f"solver.{key}: {value} {sentence}")
    if solver.progressive is True and solver.start != "zero":
        raise SpecError(f"solver.progressive: says where to start, and so does solver.start: {solver.start}")
    if solver.progressive is True and solver.name not in ("auto", *ON_SAMPLES):
        raise SpecError(
            f"solver.progressive: solver.name: {solver.name} cannot start on samples; leave it out"
        )


def _check_labelled(spec: Spec) -> None:
    if spec.data.y is None:
        raise SpecError(f"data.y: {spec.model.type} learns from labels; name their data set")
    if spec.solver.epochs != Solver().epochs:
        raise SpecError("solver.epochs: is of model.type: minibatch_kmeans; write solver.max_iter")


_OF_ALL = ("max_iter", "tol", "max_time", "epochs", "metrics_every")


def _check_unlabelled(spec: Spec) -> None:
    """Refuse what needs labels, and keys of solvers that fit linear models."""
    data, kind = spec.data, spec.model.type
    plain = Solver()
    for name, value in vars(spec.solver).items():
        if name not in _OF_ALL and value != getattr(plain, name):
            raise SpecError(f"solver.{name}: is of linear models, not model.type: {kind}; leave it out")
    if spec.solver.epochs != plain.epochs and kind != "minibatch_kmeans":
        raise SpecError(f"solver.epochs: is of model.type: minibatch_kmeans, not {kind}")
    for name in ("offset", "exposure"):
        if getattr(data, name) is not None:
            raise SpecError(f"data.{name}: is of models with labels, not model.type: {kind}; leave it out")
    model = spec.model
    if model.n_iter is not None and model.svd_solver in ("gram", "tsqr"):
        raise SpecError(f"model.n_iter: is of svd_solver: randomized, not {model.svd_solver}; leave it out")
    if model.svd_solver == "randomized" and model.n_components is not None and model.n_components < 1:
        raise SpecError("model.n_components: a share of the variance needs svd_solver: gram or tsqr")
    if model.n_init > 1 and not isinstance(model.init, str):
        raise SpecError("model.n_init: centres of a file are one start; leave it out")
    if spec.preprocessing:
        raise SpecError(f"preprocessing: model.type: {kind} takes the features as they are; leave it out")


def _check_tables(spec: Spec) -> None:
    """Refuse what does not fit tables, or fits nothing else."""
    data = spec.data
    if data.source and data.target is None and spec.task not in UNLABELLED:
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
    if spec.data.exposure is not None and spec.task not in UNLABELLED and not _has_log_link(spec):
        raise SpecError(
            f"data.exposure: needs a model of the logarithm of the mean, which model.type: {spec.model.type} "
            "is not; write data.offset for what is to be added as it is"
        )


def warnings_of(spec: Spec) -> list[str]:
    """Return what is allowed but probably not meant. Local."""
    found = []
    if spec.data.split.method == "none" and spec.task not in UNLABELLED:
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
