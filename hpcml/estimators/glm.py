"""Generalised linear models of a mean ``exp(x . w + b)``: Poisson, gamma and Tweedie."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import GammaRegressor as GammaTwin
from sklearn.linear_model import PoissonRegressor as PoissonTwin
from sklearn.linear_model import TweedieRegressor as TweedieTwin
from sklearn.utils._param_validation import Interval, StrOptions

from hpcml.algorithms.linear_model import ModelSettings
from hpcml.algorithms.losses.kinds import make_loss
from hpcml.algorithms.survey import Survey
from hpcml.collectives import Communicator
from hpcml.errors import SpecError, shared
from hpcml.estimators.blas import one_blas_thread
from hpcml.estimators.regressor import LinearRegressor
from hpcml.estimators.scoring import d2

__all__ = ["GammaRegressor", "PoissonRegressor", "TweedieRegressor"]


class _GeneralizedLinear(LinearRegressor):
    """What the three share: settings, and the share of the deviance that is explained."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LinearRegressor._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        comm: Communicator | str | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.max_iter = max_iter
        self.memory = memory
        self.warm_start = warm_start
        self.comm = comm

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> float:
        """Return D^2, the weighted share of the deviance of all ranks' rows that is explained. Collective.

        ``1 - sum s D(y, predicted) / sum s D(y, m)`` with ``m = mean y``, or with offsets the best constant
        beside them. The arguments are as in `fit`; the result is the same on every rank.
        """
        with one_blas_thread():
            return d2(*self._scored_data(X, y, sample_weight, offset))

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn twin: another object of the same predictions. Local."""
        twin = super().to_sklearn()
        twin._base_loss = twin._get_loss()  # what its predict needs, and its fit alone would set
        return twin

    def _settings(self, found: Survey, classes: NDArray[Any] | None) -> ModelSettings:
        return ModelSettings(
            self._kind, alpha=self.alpha, fit_intercept=self.fit_intercept, power=self._tweedie_power
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        loss = make_loss(self._kind, (), self._tweedie_power)
        tags.target_tags.positive_only = not loss.in_range(np.array([-1.0])).all()
        return tags


class PoissonRegressor(_GeneralizedLinear):
    """Poisson regression of counts with a log link and an l2 penalty, over the rows of all ranks.

    It minimises scikit-learn's objective, ``sum_i s_i D(y_i, m_i) / (2 sum s) + alpha/2 ||w||^2`` with the
    mean ``m_i = exp(x_i . w + b + offset_i)`` and the deviance ``D(y, m) = 2 (y log(y / m) - y + m)``, for
    y >= 0; the intercept b is not penalised. `objective_` leaves out what depends on y alone. For counts over
    an exposure e give ``offset = log(e)`` to `fit` and `predict`. The answer has the same bits for any number
    of ranks and any split of the rows.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength on the mean loss; 0 for none.
    fit_intercept : bool, default=True
    tol : float, default=1e-6
        Bound on the certificate: the duality gap relative to half the deviance of the mean of y, or without
        a penalty the largest element of the gradient relative to that of the mean of y.
    solver : {"auto", "gd", "nesterov", "lbfgs", "newton", "newton_cg", "prox_newton", "admm"}, default="auto"
        auto is newton up to 200 features, else newton_cg.
    max_iter : int, default=100
    memory : int, default=10
        Pairs that lbfgs keeps.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, the same on every rank; else from the mean of y.
    comm : None, "world" or Communicator, default=None
        The ranks that share the rows. None is this process alone; "world" all ranks of the job. With a
        communicator X and y are this rank's rows, in rank order.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : (n_features,) array of str
        Where X is a table with names.
    certificate_ : float
    converged_ : bool
        Whether the certificate is at most tol.
    objective_ : float
    reason_ : str
        Why the fit ended.

    Examples
    --------
    >>> from hpcml.estimators import PoissonRegressor
    >>> model = PoissonRegressor(alpha=0.1).fit([[1.0], [2.0], [3.0], [4.0]], [2, 3, 5, 9])
    >>> model.converged_
    True
    """

    _kind: ClassVar[str] = "poisson_regression"

    def _make_twin(self) -> Any:
        return PoissonTwin(alpha=self.alpha, fit_intercept=self.fit_intercept)


class GammaRegressor(_GeneralizedLinear):
    """Gamma regression of positive amounts with a log link and an l2 penalty, over the rows of all ranks.

    As `PoissonRegressor`, with ``D(y, m) = 2 (log(m / y) + y / m - 1)``, for y > 0. Parameters and attributes
    are those of `PoissonRegressor`.
    """

    _kind: ClassVar[str] = "gamma_regression"

    def _make_twin(self) -> Any:
        return GammaTwin(alpha=self.alpha, fit_intercept=self.fit_intercept)


class TweedieRegressor(_GeneralizedLinear):
    """Regression by a Tweedie deviance with an l2 penalty, over the rows of all ranks.

    As `PoissonRegressor`, with the deviance of a power p: 0 is least squares with ``mean = z``, 1 Poisson,
    2 gamma; between 1 and 2 is a mass at zero with positive amounts, for y >= 0. Further parameters and
    attributes are those of `PoissonRegressor`.

    Parameters
    ----------
    power : float, default=0.0
        0, or at least 1. Above 2 the loss is not convex and no answer can be certified.
    link : {"auto", "identity", "log"}, default="auto"
        auto is identity for power 0, else log; the other one is refused, since it leaves no certificate.
    uncertified : {"refuse", "allow"}, default="refuse"
        allow takes powers above 2: the certificate is then the scaled gradient, no proof of a minimum.
    """

    _kind: ClassVar[str] = "tweedie_regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_GeneralizedLinear._parameter_constraints,
        "power": [Interval(Real, 0, None, closed="left")],
        "link": [StrOptions({"auto", "identity", "log"})],
        "uncertified": [StrOptions({"refuse", "allow"})],
    }

    def __init__(
        self,
        *,
        power: float = 0.0,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        link: str = "auto",
        tol: float = 1e-6,
        solver: str = "auto",
        max_iter: int = 100,
        memory: int = 10,
        warm_start: bool = False,
        uncertified: str = "refuse",
        comm: Communicator | str | None = None,
    ) -> None:
        super().__init__(
            alpha=alpha,
            fit_intercept=fit_intercept,
            tol=tol,
            solver=solver,
            max_iter=max_iter,
            memory=memory,
            warm_start=warm_start,
            comm=comm,
        )
        self.power = power
        self.link = link
        self.uncertified = uncertified

    def _check_parameters(self, comm: Communicator) -> None:
        super()._check_parameters(comm)
        link = "log" if self.power else "identity"
        if 0 < self.power < 1:
            sentence = f"power: no Tweedie distribution has the power {self.power:g}"
            raise shared(SpecError(f"{sentence}; take 0 or at least 1"))
        if self.link not in ("auto", link):
            raise shared(SpecError(f"link: power {self.power:g} goes with {link} here, not {self.link}"))
        if self.power > 2 and self.uncertified == "refuse":
            sentence = f"power: {self.power:g} makes a loss that is not convex, so no answer can be certified"
            raise shared(SpecError(f"{sentence}; take 0, a power in [1, 2], or uncertified='allow'"))

    @property
    def _tweedie_power(self) -> float:
        return float(self.power)

    def _make_twin(self) -> Any:
        return TweedieTwin(
            power=self.power, alpha=self.alpha, fit_intercept=self.fit_intercept, link=self.link
        )
