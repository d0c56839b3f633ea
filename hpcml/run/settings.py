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
    from hpcml.algorithms.class_weight import ClassWeight

__all__ = ["class_weight", "model_settings"]


def model_settings(
    spec: Spec, is_sparse: bool, classes: NDArray[np.float64], labels: Sequence[str] | None
) -> ModelSettings:
    """Return what decides the model, apart from the data. Local.

    Parameters
    ----------
    spec : Spec
    is_sparse : bool
        The rows are CSR, which `with_mean: auto` does not centre.
    classes : (n_classes,) array
        Labels in order, as numbers.
    labels : sequence of str or None
        What the labels 0, 1, ... are called.

    Raises
    ------
    SpecError
        A key of `model.class_weight` is no class.
    """
    model, steps = spec.model, spec.preprocessing
    with_mean = bool(steps) and (not is_sparse if steps[0].with_mean == "auto" else steps[0].with_mean)
    return ModelSettings(
        model.type,
        alpha=0.0 if model.penalty == "none" else model.alpha,
        C=None if model.penalty == "none" else model.C,
        fit_intercept=model.fit_intercept,
        with_mean=with_mean,
        with_std=bool(steps) and steps[0].with_std,
        power=model.power if model.type == "tweedie_regression" else 0.0,
        class_weight=class_weight(model.class_weight, classes, labels),
    )


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
