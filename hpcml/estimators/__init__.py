"""Thin scikit-learn-conformant shells over the algorithms; the only room that imports scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcml.algorithms.linear_model import LinearModel
from hpcml.errors import SpecError
from hpcml.estimators.base import UNKNOWN, LinearEstimator, Outcome
from hpcml.estimators.logistic import LogisticRegression
from hpcml.estimators.regression import LinearRegression, Ridge

__all__ = ["LinearRegression", "LogisticRegression", "Outcome", "Ridge", "estimator_from_model"]


def estimator_from_model(
    model: LinearModel,
    *,
    labels: Sequence[Any] | None = None,
    alpha: float | None = None,
    feature_names: Sequence[str] | None = None,
    outcome: Outcome = UNKNOWN,
    **parameters: Any,
) -> LinearEstimator:
    """Return the fitted estimator of a model that was read from a file, say. Local.

    Parameters
    ----------
    model : LinearModel
    labels : sequence, optional
        What the classes are called, in the order of ``model.classes``; by default those numbers.
    alpha : float, optional
        Of a linear regression, on the sum of squares as in `Ridge`: above zero gives a Ridge, else the
        answer is a LinearRegression.
    feature_names : sequence of str, optional
    outcome : Outcome, optional
        How the fit ended.
    **parameters
        Of the estimator's constructor: C, fit_intercept, solver, tol, ...

    Raises
    ------
    SpecError
        The kind of model has no estimator, or labels or alpha do not fit it.
    """
    fitted: dict[str, Any] = {"feature_names": feature_names, "outcome": outcome, **parameters}
    if model.kind == "logistic_regression":
        if alpha is not None:
            raise SpecError("alpha is for a linear regression; a classifier takes C = 1 / (alpha sum s)")
        return LogisticRegression._from_model(model, labels=labels, **fitted)
    if model.kind != "linear_regression":
        raise SpecError(f"no estimator for a model of kind {model.kind!r}")
    if alpha:
        return Ridge._from_model(model, labels=labels, alpha=alpha, **fitted)
    return LinearRegression._from_model(model, labels=labels, **fitted)
