"""From a data set and a model's settings to an objective, and from its answer to coefficients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.losses import Logistic, Loss, Squared
from hpcml.algorithms.objective import Objective
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.scaling import Scaling, fit_scaling
from hpcml.algorithms.survey import Survey
from hpcml.data import Dataset
from hpcml.errors import DataError, shared

__all__ = ["LinearModel", "ModelSettings", "make_loss", "make_model", "make_objective", "model_from_arrays"]

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ModelSettings:
    """What decides a linear model, apart from the data.

    Parameters
    ----------
    kind : {"logistic_regression", "linear_regression"}
    alpha : float or None
        Strength of the penalty on the mean loss; 0 for none.
    C : float or None
        In its place, ``alpha = 1 / (C sum s)``, scikit-learn's scaling.
    l1_ratio : float
        The penalty is ``alpha (l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||^2)``.
    factors : float or (n_features,) array
        Multiply alpha for each feature.
    lower, upper : float or (n_features,) array
        Bounds on the coefficients of the original features; zero lies between them.
    fit_intercept : bool
    with_mean, with_std : bool
        Standardise the features: the penalty then acts on the weights of the standardised ones.
    """

    kind: str
    alpha: float | None = None
    C: float | None = None
    l1_ratio: float = 0.0
    factors: float | Vector = 1.0
    lower: float | Vector = -np.inf
    upper: float | Vector = np.inf
    fit_intercept: bool = True
    with_mean: bool = False
    with_std: bool = False

    def strength(self, total_weight: float) -> float:
        """Return alpha. Local."""
        return 1.0 / (self.C * total_weight) if self.C is not None else self.alpha or 0.0


class LinearModel(NamedTuple):
    """A fitted linear model, on the original features.

    Attributes
    ----------
    kind : {"logistic_regression", "linear_regression"}
    coef : (n_features,) array
    intercept : float
    classes : (n_classes,) array
        Labels in order, for a classifier.
    mean, scale : (n_features,) array
        Of the standardisation that was asked for; zeros and ones otherwise.
    """

    kind: str
    coef: Vector
    intercept: float
    classes: Vector
    mean: Vector
    scale: Vector

    def arrays(self) -> dict[str, Vector]:
        """Return the model's numbers by name, for a file. Local."""
        intercept = np.array([self.intercept])
        return {
            "coef": self.coef,
            "intercept": intercept,
            "classes": self.classes,
            "mean": self.mean,
            "scale": self.scale,
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of coefficients, intercept, classes and scaling. Local."""
        hasher = hashlib.sha256(self.kind.encode())
        for part in self.arrays().values():
            hasher.update(np.array([part.size], "<i8").tobytes() + part.astype("<f8").tobytes())
        return hasher.hexdigest()


def model_from_arrays(kind: str, arrays: Mapping[str, Vector]) -> LinearModel:
    """Return the model that `LinearModel.arrays` was taken from. Local."""
    intercept = float(arrays["intercept"][0])
    return LinearModel(kind, arrays["coef"], intercept, arrays["classes"], arrays["mean"], arrays["scale"])


def make_loss(kind: str, classes: Sequence[float] | Vector) -> Loss:
    """Return the loss of a model. Local.

    Raises
    ------
    DataError
        A classifier without exactly two classes.
    """
    if kind == "linear_regression":
        return Squared()
    if len(classes) < 2:
        only = f": all are {classes[0]:g}" if len(classes) else ""
        raise shared(DataError(f"logistic regression needs labels of two classes{only}"))
    if len(classes) > 2:
        shown = ", ".join(f"{label:g}" for label in classes[:5])
        sentence = f"logistic regression takes two classes in this version, not {len(classes)} ({shown}, ...)"
        raise shared(DataError(sentence))
    return Logistic(positive=float(classes[1]))


def make_objective(
    data: Dataset,
    settings: ModelSettings,
    found: Survey,
    ballot: Ballot | None = None,
    known: Scaling | None = None,
) -> tuple[Objective, Scaling]:
    """Return the objective, and the standardisation that the user asked for.

    Collective: two passes, four messages; none with `known`, the answer of
    ``fit_scaling(data, True, True)``. Solvers work on features of their own scales, whatever was asked
    for: ``t_j^2 = s_j^2 + alpha_j / c`` with the deviation s_j, the l2 strength alpha_j on the original
    coefficient and the largest curvature c of the loss. Weights v of those features with strengths
    ``alpha_j / t_j^2``, for l1 divided by t_j, give the user's own objective, with a Hessian whose diagonal
    is near c: well conditioned where only the scales were bad.
    """
    loss = make_loss(settings.kind, found.classes)
    full = known or fit_scaling(data, True, True)
    d = data.n_features
    asked = Scaling(
        full.mean if settings.with_mean else np.zeros(d), full.scale if settings.with_std else np.ones(d)
    )
    alpha = settings.strength(found.total_weight) * np.broadcast_to(settings.factors, (d,))
    l2 = alpha * (1 - settings.l1_ratio) * np.square(asked.scale)
    scale = np.sqrt(np.square(full.scale) + l2 / loss.max_curvature)
    # Without an intercept nothing can make up for a shift of the features.
    scaling = Scaling(full.mean if settings.fit_intercept else asked.mean, scale)
    l1 = alpha * settings.l1_ratio * asked.scale
    penalty = make_penalty(
        d, l2 / np.square(scale), l1 / scale, settings.lower * scale, settings.upper * scale
    )
    total, has_intercept = found.total_weight, settings.fit_intercept
    return Objective(data, loss, penalty, scaling, total, has_intercept, ballot or Ballot()), asked


def make_model(objective: Objective, w: Vector, kind: str, classes: Vector, asked: Scaling) -> LinearModel:
    """Return the model on the original features. Local."""
    coef, intercept = objective.to_raw(w)
    return LinearModel(kind, coef, intercept, classes, asked.mean, asked.scale)
