"""From rows to principal components, or to singular vectors, by any of the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.decomposition.choice import Choice, choose
from hpcml.algorithms.decomposition.gram import scatter
from hpcml.algorithms.decomposition.randomized import (
    LoopState,
    Progress,
    RandomizedSVD,
    Subspace,
    last_pass,
    residual,
    run_randomized,
)
from hpcml.algorithms.decomposition.reference import TOO_LARGE
from hpcml.algorithms.decomposition.spectrum import (
    Spectrum,
    Wanted,
    check_number,
    count,
    digits_left,
    from_factor,
    from_products,
)
from hpcml.algorithms.decomposition.tsqr import tall_factor
from hpcml.algorithms.reduction import Ballot
from hpcml.data import Dataset
from hpcml.errors import DataError, shared

__all__ = ["Decomposition", "DecompositionSettings", "decompose"]

Vector = NDArray[np.float64]
_FEW_DIGITS = 6.0


@dataclass(frozen=True)
class DecompositionSettings:
    """What to find, and how.

    Parameters
    ----------
    n_components : int, float, "mle" or None
        A number; the share of the variance to hold; by Minka's rule; or as many as rows or columns.
    centered : bool
        Principal components, of the rows less their mean; else singular vectors of the rows.
    method : {"auto", "gram", "tsqr", "randomized"}, or "covariance_eigh" or "full"
    n_iter : int, optional
        Power iterations of "randomized"; None lets the values settle.
    n_oversamples, seed, tol, max_iter
        Of "randomized": see `RandomizedSVD`.
    """

    n_components: Wanted = None
    centered: bool = True
    method: str = "auto"
    n_iter: int | None = None
    n_oversamples: int = 10
    seed: int = 0
    tol: float | None = None
    max_iter: int = 100


class Decomposition(NamedTuple):
    """Components of the rows, the same on every rank.

    Attributes
    ----------
    components : (k, n_features) array
        Orthonormal rows, those of the largest singular values first. In each the element of largest size,
        the first of equals, is positive.
    singular_values : (k,) array
        Of the rows less their mean, or of the rows; weighted rows count by the roots of their weights.
    explained_variance, explained_variance_ratio : (k,) array
        Centred ``sigma^2 / (W - 1)`` with W the sum of weights; else the variance of the transformed rows,
        divided by W. And the share of all.
    mean : (n_features,) array
        0 where the rows were taken as they are.
    noise_variance : float
        Mean variance of the components left out.
    n_samples : int
    centered : bool
    method, reason : str
        How they were found, and why so.
    n_iter : int
        Passes of "randomized".
    digits : float
        Decimal digits that the last component's variance has, about.
    timed : bool
        Whether a time limit cut the passes: then the bits are not promised.
    residual : float
        Largest ``|C v - sigma^2 v|`` of the components v over the largest ``sigma^2``, C being ``X^T X`` of
        the rows, less their mean if centred. Each ``sigma^2`` is within that share of an eigenvalue of C.
    end : str
        Why the passes ended, a sentence.
    """

    components: NDArray[np.float64]
    singular_values: Vector
    explained_variance: Vector
    explained_variance_ratio: Vector
    mean: Vector
    noise_variance: float
    n_samples: int
    centered: bool = True
    method: str = ""
    reason: str = ""
    n_iter: int = 0
    digits: float = 16.0
    timed: bool = False
    residual: float = 0.0
    end: str = ""

    @property
    def warning(self) -> str:
        """What a user should know of the digits, or nothing. Local."""
        if self.digits >= _FEW_DIGITS:
            return ""
        return (
            f"the variance of the last component has about {self.digits:.0f} digits left: products of "
            "columns square the condition of X; svd_solver='tsqr' keeps them"
        )


class _Found(NamedTuple):
    """What a method finds: `squares` is ``sum s |x - mean|^2``, and no value beyond `most` can be above 0."""

    spectrum: Spectrum
    weight: float
    mean: Vector
    squares: float
    most: int
    residual: float
    n_iter: int = 0
    timed: bool = False
    end: str = "all passes were made"


def decompose(
    data: Dataset,
    settings: DecompositionSettings,
    *,
    loop: LoopState | None = None,
    callback: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    ballot: Ballot | None = None,
) -> Decomposition:
    """Return the components of a data set, whose numbers are finite.

    Collective: "gram" one pass, "tsqr" one pass, "randomized" as many as it needs and one more; "auto" adds
    "tsqr" to "gram" where the last component has fewer than six digits left.

    Parameters
    ----------
    data : Dataset
    settings : DecompositionSettings
    loop : LoopState, optional
        Of "randomized": where an earlier run stood.
    callback, stopped, ballot
        Of "randomized": see `run_randomized`.

    Raises
    ------
    DataError
        Too few rows, too many columns for the method, or more components than X has.
    """
    n, d = data.n_samples, data.n_features
    if settings.centered and n < 2:
        raise shared(DataError(f"X has n_samples={n}: a variance needs at least 2 rows"))
    choice = choose(settings.method, settings.n_components, n, d)
    if choice.name == "randomized":
        solver = _solver(settings, min(n, d))
        subspace = run_randomized(data, solver, loop=loop, callback=callback, stopped=stopped, ballot=ballot)
        return _kept(_by_directions(data, solver, subspace), choice, settings, n)
    found = _METHODS[choice.name](data, settings.centered)
    kept = _kept(found, choice, settings, n)
    if settings.method != "auto" or kept.digits >= _FEW_DIGITS:
        return kept
    why = f"products of columns left {kept.digits:.0f} digits of the last component's variance"
    return _kept(_by_factor(data, settings.centered), Choice("tsqr", why), settings, n)


def _by_products(data: Dataset, centered: bool) -> _Found:
    found = scatter(data)
    squares = np.diag(found.products)
    moment = np.zeros_like(found.mean) if centered else found.mean * np.sqrt(found.weight)
    products = found.products + np.outer(moment, moment)
    if not np.isfinite(products).all():
        raise shared(DataError(TOO_LARGE))
    most = min(data.n_samples - centered, int((np.diag(products) > 0).sum()))
    spectrum = from_products(products)
    return _Found(spectrum, found.weight, found.mean, float(squares.sum()), most, _proof(products, spectrum))


def _by_factor(data: Dataset, centered: bool) -> _Found:
    found = tall_factor(data)
    squares = float(np.square(found.R).sum())
    moment = found.mean * np.sqrt(found.weight)
    R = found.R if centered else np.concatenate([moment[None], found.R])
    most = min(data.n_samples - centered, data.n_features)
    spectrum = from_factor(R)
    return _Found(spectrum, found.weight, found.mean, squares, most, _proof(R.T @ R, spectrum))


def _proof(products: NDArray[np.float64], spectrum: Spectrum) -> float:
    """Return the residual of all vectors with ``X^T X``."""
    vectors = spectrum.vectors.T
    return residual(products @ vectors, np.square(spectrum.values), vectors, len(products))


_METHODS = {"gram": _by_products, "tsqr": _by_factor}


def _solver(settings: DecompositionSettings, most: int) -> RandomizedSVD:
    k = most if settings.n_components is None else int(settings.n_components)
    return RandomizedSVD(
        k,
        settings.centered,
        settings.n_oversamples,
        settings.n_iter,
        settings.seed,
        settings.tol,
        settings.max_iter,
    )


def _by_directions(data: Dataset, solver: RandomizedSVD, found: Subspace) -> _Found:
    centered = solver.centered
    R, products = last_pass(data, found.loop.solver, centers=centered)
    squares = found.squares if centered else found.squares - found.weight * float(found.mean @ found.mean)
    spectrum = from_factor(R, found.basis)
    vectors, squared = spectrum.vectors.T, np.square(spectrum.values)
    proof = residual(products @ (found.basis.T @ vectors), squared, vectors, solver.n_components)
    most = min(data.n_samples - centered, data.n_features)
    rest = proof, found.n_iter, found.timed, found.reason
    return _Found(spectrum, found.weight, found.mean, squares, most, *rest)


def _kept(found: _Found, choice: Choice, settings: DecompositionSettings, n: int) -> Decomposition:
    """Return the components that are wanted, and what follows from them."""
    if not np.isfinite(found.squares):
        raise shared(DataError(TOO_LARGE))
    centered, wanted = settings.centered, settings.n_components
    spectrum, d = found.spectrum, found.mean.size
    values = np.where(np.arange(spectrum.values.size) < found.most, spectrum.values, 0.0)
    spectrum = spectrum._replace(values=values)
    if choice.name != "gram":  # where products end cannot be told from rounding
        check_number(wanted, spectrum, (n, d), " less its mean" if centered else "")
    k = count(wanted, spectrum, n, min(n, d))
    components, values = spectrum.vectors[:k], values[:k]
    total = max(found.squares, 0.0) / _divisor(found.weight, centered)
    moments = np.zeros(k) if centered else components @ found.mean
    variance = np.square(values) / _divisor(found.weight, centered) - np.square(moments)
    variance = np.maximum(variance, 0.0)
    left = min(n, d) - k
    return Decomposition(
        components=components,
        singular_values=values,
        explained_variance=variance,
        explained_variance_ratio=variance / total if total > 0 else np.zeros(k),
        mean=found.mean if centered else np.zeros(d),
        noise_variance=max(total - float(variance.sum()), 0.0) / left if left else 0.0,
        n_samples=n,
        centered=centered,
        method=choice.name,
        reason=choice.reason,
        n_iter=found.n_iter,
        digits=digits_left(spectrum, min(k, max(found.most, 1))) if choice.name == "gram" else 16.0,
        timed=found.timed,
        residual=found.residual,
        end=found.end,
    )


def _divisor(weight: float, centered: bool) -> float:
    return weight - 1 if centered else weight
