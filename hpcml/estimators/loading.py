"""From a model file to a fitted estimator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcml.algorithms.linear_model import model_from_arrays
from hpcml.algorithms.losses.kinds import CLASSIFIERS
from hpcml.estimators import estimator_from_model
from hpcml.estimators.base import LinearEstimator, Outcome
from hpcml.io.model import read_model

__all__ = ["load_model"]


def load_model(path: str | Path) -> LinearEstimator:
    """Return the fitted estimator that a run saved: LogisticRegression, Ridge, PoissonRegressor, ...

    Local. Nothing in the file is executed. A model that was trained with offsets takes them in `predict`.

    Parameters
    ----------
    path : str or Path
        A model file, or a run directory that has one.

    Raises
    ------
    DataError
        It is missing, or not a model file of this version.

    Examples
    --------
    >>> model = load_model("runs/flights-delay")  # doctest: +SKIP
    >>> model.predict_proba(X)  # doctest: +SKIP
    """
    path = Path(path)
    file = read_model(path / "model.h5" if path.is_dir() else path)
    about = file.about
    model = model_from_arrays(about["kind"], file.arrays)
    settings: dict[str, Any] = {"fit_intercept": about["spec"]["model"]["fit_intercept"]}
    spec = about["spec"]["model"]
    ratio = {"l1": 1.0, "elasticnet": spec.get("l1_ratio", 0.0)}.get(spec["penalty"], 0.0)
    settings["l1_ratio"] = ratio
    strength = about["alpha"] * about["total_weight"]
    if about["kind"] in CLASSIFIERS:
        settings["C"] = 1.0 / strength if strength else float("inf")
    else:  # Ridge and HuberRegressor take their strength on the sum, the others on the mean
        is_ridge = about["kind"] == "linear_regression" and not ratio
        is_huber = about["kind"] == "huber_regression"
        settings["alpha"] = strength if is_ridge or is_huber else about["alpha"]
        settings |= {"epsilon": spec["epsilon"]} if is_huber else {}
    outcome = Outcome(**{name: about[name] for name in Outcome._fields})
    return estimator_from_model(
        model, labels=about["labels"], feature_names=about["feature_names"], outcome=outcome, **settings
    )
