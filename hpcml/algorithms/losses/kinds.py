"""The loss of each kind of model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpcml.algorithms.losses.base import Loss, Vector
from hpcml.algorithms.losses.distance import Huber, JointHuber, Squared
from hpcml.algorithms.losses.log_link import Gamma, Poisson, Tweedie
from hpcml.algorithms.losses.two_classes import Logistic, SquaredHinge
from hpcml.algorithms.pairs import Facts
from hpcml.errors import DataError, shared

__all__ = ["CLASSIFIERS", "facts_of", "make_loss"]

CLASSIFIERS = ("logistic_regression", "linear_svc")


def make_loss(
    kind: str, classes: Sequence[float] | Vector, power: float = 0.0, delta: float | None = None
) -> Loss:
    """Return the loss of a model. Local.

    Parameters
    ----------
    kind : str
        As in `ModelSettings`.
    classes : sequence of float
        Labels in order, of a classifier.
    power : float
        Of a Tweedie deviance: 0 is least squares, 1 Poisson and 2 gamma.
    delta : float or None
        Of Huber's loss; None for the one whose scale is fitted too.

    Raises
    ------
    DataError
        A classifier of fewer than two classes, a support vector classifier of more, or more than two labels
        that are not whole numbers.
    """
    if kind in CLASSIFIERS:
        _check_number(kind, classes)
        if len(classes) > 2:
            from hpcml.algorithms.losses.softmax import Softmax  # few fits have several classes

            return Softmax(tuple(float(label) for label in classes))
        positive = float(classes[1])
        return Logistic(positive) if kind == "logistic_regression" else SquaredHinge(positive)
    if kind == "huber_regression":
        return JointHuber() if delta is None else Huber(delta)
    powers = {"linear_regression": 0.0, "poisson_regression": 1.0, "gamma_regression": 2.0}
    losses: dict[float, Loss] = {0.0: Squared(), 1.0: Poisson(), 2.0: Gamma()}
    power = powers.get(kind, power)
    return losses.get(power) or Tweedie(power)


def _check_number(kind: str, classes: Sequence[float] | Vector) -> None:
    name = kind.replace("_", " ")
    if len(classes) < 2:
        only = f": all are {classes[0]:g}" if len(classes) else ""
        raise shared(DataError(f"{name} needs labels of two classes{only}"))
    shown = ", ".join(f"{label:g}" for label in classes[:5])
    if len(classes) > 2 and any(label != round(label) for label in classes):
        sentence = f"{name} takes classes, and y has {len(classes)} values, not whole numbers ({shown}, ...)"
        raise shared(DataError(sentence))
    if len(classes) > 2 and kind != "logistic_regression":
        sentence = f"{name} takes two classes in this version, not {len(classes)} ({shown}, ...)"
        sentence += "; logistic regression takes more"
        raise shared(DataError(sentence))


def facts_of(loss: Loss) -> Facts:
    """Return what decides which solvers can minimise a loss. Local."""
    return Facts(
        loss.name,
        isinstance(loss, Squared),
        math.isfinite(loss.max_curvature),
        loss.is_convex,
        isinstance(loss, JointHuber),
        loss.n_outputs,
    )
