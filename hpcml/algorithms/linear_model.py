"""From a data set and a model's settings to an objective, and from its answer to coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.losses import JointHuber, Loss
from hpcml.algorithms.losses.base import Intercept
from hpcml.algorithms.losses.kinds import make_loss
from hpcml.algorithms.model import model_digest
from hpcml.algorithms.objective import Objective, Start
from hpcml.algorithms.penalties import make_penalty
from hpcml.algorithms.reduction import Ballot
from hpcml.algorithms.scaling import Scaling, fit_scaling, rough_scaling
from hpcml.algorithms.survey import Survey
from hpcml.algorithms.target import NO_TARGET, Target
from hpcml.data import Dataset
from hpcml.errors import DataError, shared

if TYPE_CHECKING:
    from hpcml.algorithms.class_weight import ClassWeight

__all__ = [
    "LinearModel",
    "ModelSettings",
    "make_model",
    "make_objective",
    "model_from_arrays",
]

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ModelSettings:
    """What decides a linear model, apart from the data.

    Parameters
    ----------
    kind : str
        logistic_regression, linear_svc, linear_regression, poisson_regression, gamma_regression,
        tweedie_regression or huber_regression.
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
    power : float
        Of a Tweedie deviance.
    class_weight : mapping, "balanced" or None
        What the weights of a class's rows are multiplied by.
    epsilon : float
        Of huber_regression: residuals above epsilon times the scale count by their size alone.
    scale : float or None
        Of huber_regression: the scale of the residuals; None to find it along with the weights.
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
    power: float = 0.0
    class_weight: ClassWeight | None = None
    epsilon: float = 1.35
    scale: float | None = None

    @property
    def delta(self) -> float | None:
        """Threshold of Huber's loss, None where its scale is fitted too. Local."""
        return None if self.scale is None else self.epsilon * self.scale

    def strength(self, total_weight: float) -> float:
        """Return alpha. Local."""
        return 1.0 / (self.C * total_weight) if self.C is not None else self.alpha or 0.0


class LinearModel(NamedTuple):
    """A fitted linear model, on the original features.

    Attributes
    ----------
    kind : str
        As in `ModelSettings`.
    coef : (n_features,) array, or (n_classes, n_features) for more than two classes
    intercept : float, or (n_classes,) array of mean zero
    classes : (n_classes,) array
        Labels in order, for a classifier.
    mean, scale : (n_features,) array
        Of the standardisation that was asked for; zeros and ones otherwise.
    power : float
        Of a Tweedie deviance, else 0.
    delta : float
        Residuals above it count by their size alone, in Huber's regression; else 0.
    """

    kind: str
    coef: Vector
    intercept: Intercept
    classes: Vector
    mean: Vector
    scale: Vector
    power: float = 0.0
    delta: float = 0.0

    @property
    def n_features(self) -> int:
        """Columns of the rows that it takes. Local."""
        return int(self.coef.shape[-1])

    @property
    def loss(self) -> Loss:
        """The loss that it was fitted by. Local."""
        return make_loss(self.kind, self.classes, self.power, self.delta)

    def predicted(self, z: Vector) -> Vector:
        """Return classes, or means, from raw predictions: ``exp(z)`` for a log link, else z. Local."""
        if z.ndim == 2:
            return np.asarray(self.classes[np.argmax(z, axis=1)])
        if self.classes.size:
            return np.asarray(self.classes[(z > 0).astype(int)])
        with np.errstate(over="ignore"):
            return np.exp(z) if self.loss.has_log_link else z

    def arrays(self) -> dict[str, Vector]:
        """Return the model's numbers by name, for a file. Local."""
        numbers = {
            "coef": self.coef,
            "intercept": np.atleast_1d(np.asarray(self.intercept, np.float64)),
            "classes": self.classes,
            "mean": self.mean,
            "scale": self.scale,
        }
        rare = {"power": self.power, "delta": self.delta}
        return numbers | {name: np.array([number]) for name, number in rare.items() if number}

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of coefficients, intercept, classes, scaling, power and delta. Local."""
        return model_digest(self.kind, self.arrays())


def model_from_arrays(kind: str, arrays: Mapping[str, Vector]) -> LinearModel:
    """Return the model that `LinearModel.arrays` was taken from. Local."""
    coef, classes, mean, scale = (arrays[name] for name in ("coef", "classes", "mean", "scale"))
    power, delta = (float(arrays[name][0]) if name in arrays else 0.0 for name in ("power", "delta"))
    intercept = arrays["intercept"] if coef.ndim == 2 else float(arrays["intercept"][0])
    return LinearModel(kind, coef, intercept, classes, mean, scale, power, delta)


def make_objective(
    data: Dataset,
    settings: ModelSettings,
    found: Survey,
    ballot: Ballot | None = None,
    known: Scaling | None = None,
    target: Target = NO_TARGET,
) -> tuple[Objective, Scaling]:
    """Return the objective, and the standardisation that the user asked for.

    Collective: two passes, four messages, none with `known`, the answer of ``fit_scaling(data, True, True)``.
    Where no standardisation was asked for, those passes go over a sample of many rows, `known` or not. One
    more pass and two messages for class weights, which change no standardisation. Solvers work on features of
    their own scales, whatever was asked for: ``t_j^2 = s_j^2 + alpha_j / c`` with the deviation
    s_j, the l2 strength alpha_j on the original coefficient and the largest curvature c of the loss, or that
    at the start where there is no largest. Weights v of those features with strengths ``alpha_j / t_j^2``,
    for l1 divided by t_j, give the user's own objective, with a Hessian whose diagonal is near c: well
    conditioned where only the scales were bad.

    Parameters
    ----------
    data : Dataset
    settings : ModelSettings
    found : Survey
    ballot : Ballot, optional
    known : Scaling, optional
    target : Target
        From `look_at_target`, for a loss with a log link.

    Raises
    ------
    DataError
        No optimum: a log link and an intercept for labels that are all zero. Or a number of classes that
        the model does not take.
    SpecError
        Weights of classes that are not there.
    """
    loss = make_loss(settings.kind, found.classes, settings.power, settings.delta)
    is_asked = settings.with_mean or settings.with_std
    full = (None if is_asked else rough_scaling(data)) or known or fit_scaling(data, True, True)
    d, total, has_intercept = data.n_features, found.total_weight, settings.fit_intercept
    asked = Scaling(
        full.mean if settings.with_mean else np.zeros(d), full.scale if settings.with_std else np.ones(d)
    )
    if settings.class_weight is not None:
        from hpcml.algorithms.class_weight import reweighted  # few runs have weights of classes

        data, total = reweighted(data, found.classes, settings.class_weight)
    if is_joint := isinstance(loss, JointHuber):
        from hpcml.algorithms.joint_scale import JointScale, joint_start  # few runs fit a scale

        start = joint_start(data, total, has_intercept)
    else:
        start = _start(loss, target, has_intercept)
    alpha = settings.strength(total) * np.broadcast_to(settings.factors, (d,))
    l2 = alpha * (1 - settings.l1_ratio) * np.square(asked.scale)
    l1 = alpha * settings.l1_ratio * asked.scale
    scale = np.sqrt(np.square(full.scale) + l2 / start.curvature)
    # Without an intercept nothing can make up for a shift of the features.
    scaling = Scaling(full.mean if has_intercept else asked.mean, scale)
    strengths = (l2 / np.square(scale), l1 / scale, settings.lower * scale, settings.upper * scale)
    k = loss.n_outputs
    penalty = make_penalty(k * d, *(np.tile(each, k) for each in strengths))
    parts = (data, loss, penalty, scaling, total, has_intercept, ballot or Ballot(), start)
    return JointScale(*parts, settings.epsilon) if is_joint else Objective(*parts), asked


_ROUNDING = 2.0**-26
"""Share of the curvature up to which a gradient at the start is taken for rounding of the labels' mean."""


def _start(loss: Loss, target: Target, has_intercept: bool) -> Start:
    """Return where a fit starts.

    The slope and curvature of a log link are linear in y: the mean of y gives their means at the start, times
    the mean size of a row's part where rows have offsets.
    """
    if not loss.has_log_link:
        return Start(curvature=loss.max_curvature)
    if has_intercept and not target.mean > 0:
        sentence = f"y is 0 wherever it weighs: the {loss.name} loss falls for ever as the intercept falls"
        raise shared(DataError(sentence))
    z = loss.best_constant(target.mean) if has_intercept else 0.0
    at_start = loss.terms(np.array([z]), np.array([target.mean]))
    curvature = target.size * float(at_start.curvature[0])
    return Start(z, target.least, _ROUNDING * curvature, curvature)


def make_model(
    objective: Objective, w: Vector, settings: ModelSettings, classes: Vector, asked: Scaling
) -> LinearModel:
    """Return the model on the original features; intercepts of several classes have mean zero.

    Local; for a scale that is fitted Collective, one pass.
    """
    coef, intercept = objective.to_raw(w)
    if isinstance(intercept, np.ndarray):
        intercept = intercept - intercept.mean()
    delta = settings.delta or 0.0
    if isinstance(objective.loss, JointHuber):
        from hpcml.algorithms.joint_scale import threshold_at

        delta = threshold_at(objective, w)
    return LinearModel(
        settings.kind, coef, intercept, classes, asked.mean, asked.scale, settings.power, delta
    )
