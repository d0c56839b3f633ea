"""From the spec's model section to the settings of a linear model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.linear_model import ModelSettings
from hpcml.errors import SpecError, shared
from hpcml.spec import Spec

if TYPE_CHECKING:
    from hpcml.algorithms.admm import ADMM
    from hpcml.algorithms.class_weight import ClassWeight

__all__ = ["admm_settings", "class_weight", "model_settings"]


def model_settings(
    spec: Spec,
    n_features: int,
    is_sparse: bool,
    classes: NDArray[np.float64],
    labels: Sequence[str] | None,
) -> ModelSettings:
    """Return what decides the model, apart from the data. Local.

    Parameters
    ----------
    spec : Spec
    n_features : int
    is_sparse : bool
        The rows are CSR, which `with_mean: auto` does not centre.
    classes : (n_classes,) array
        Labels in order, as numbers.
    labels : sequence of str or None
        What the labels 0, 1, ... are called.

    Raises
    ------
    SpecError
        A key of `model.class_weight` is no class; a list has not a number for each feature.
    """
    model, steps = spec.model, spec.preprocessing
    with_mean = bool(steps) and (not is_sparse if steps[0].with_mean == "auto" else steps[0].with_mean)
    ratios = {"l1": 1.0, "elasticnet": model.l1_ratio or 0.0}
    return ModelSettings(
        model.type,
        alpha=0.0 if model.penalty == "none" else model.alpha,
        C=None if model.penalty == "none" else model.C,
        l1_ratio=ratios.get(model.penalty, 0.0),
        factors=_each("penalty_factor", model.penalty_factor, 1.0, n_features),
        lower=_each("lower", model.lower, -np.inf, n_features),
        upper=_each("upper", model.upper, np.inf, n_features),
        fit_intercept=model.fit_intercept,
        with_mean=with_mean,
        with_std=bool(steps) and steps[0].with_std,
        power=model.power if model.type == "tweedie_regression" else 0.0,
        class_weight=class_weight(model.class_weight, classes, labels),
    )


def admm_settings(spec: Spec) -> ADMM | None:
    """Return ADMM as the solver section has it, None for another solver. Local."""
    if spec.solver.name != "admm":
        return None
    from hpcml.algorithms.admm import ADMM

    rho, solver = spec.solver.rho, spec.solver
    first = ADMM.rho if isinstance(rho, str) else rho
    return ADMM(first, solver.relaxation, solver.adapt_rho == "relative")


def _each(
    key: str, given: float | tuple[float, ...] | None, default: float, n_features: int
) -> float | NDArray[np.float64]:
    """Return one number for all features, or one for each."""
    if not isinstance(given, tuple):
        return default if given is None else given
    if len(given) != n_features:
        n = len(given)
        raise shared(SpecError(f"model.{key}: has {n} numbers, and the data has {n_features} features"))
    return np.array(given)


def class_weight(
    wanted: Mapping[str, float] | str | None, classes: NDArray[np.float64], labels: Sequence[str] | None
) -> ClassWeight | None:
    """Return the weights of classes by the numbers that stand for them. Local.

    Raises
    ------
    SpecError
        A key is neither the name nor the number of a class.
    """
    if wanted is None or isinstance(wanted, str):
        return wanted
    numbers = {f"{label:g}": label for label in classes.tolist()}
    named = numbers | {labels[int(label)]: label for label in classes.tolist() if labels}
    for key in wanted:
        if key not in named and _number(key) not in classes:
            known = ", ".join(map(str, named))
            raise shared(SpecError(f"model.class_weight: {key} is no class of the data; choose from {known}"))
    return {named.get(key, _number(key)): weight for key, weight in wanted.items()}


def _number(key: str) -> float:
    """Return the number that a key spells, NaN for a name."""
    try:
        return float(key)
    except ValueError:
        return float("nan")
