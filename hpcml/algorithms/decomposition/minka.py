"""The number of principal components by their evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["likely_count"]

Vector = NDArray[np.float64]


def likely_count(variances: Vector, n_samples: int) -> int:
    """Return the number of components of the largest evidence, at least 1 and below all. Local.

    Parameters
    ----------
    variances : (m,) array
        In falling order.
    n_samples : int

    References
    ----------
    Minka, "Automatic choice of dimensionality for PCA", NIPS 2000.
    """
    evidence = [_evidence(variances, k, n_samples) for k in range(1, variances.size)]
    return int(np.argmax(evidence)) + 1 if evidence else 1


def _evidence(variances: Vector, k: int, n: int) -> float:
    """Return the logarithm of Laplace's approximation to the evidence of k components."""
    from scipy.special import gammaln

    d = variances.size
    if variances[k - 1] < np.finfo(np.float64).eps:
        return -np.inf
    rest = max(np.finfo(np.float64).eps, float(variances[k:].sum()) / (d - k))
    sizes = (d - np.arange(k)) / 2
    volume = -k * np.log(2.0) + float((gammaln(sizes) - np.log(np.pi) * sizes).sum())
    fit = -(n / 2) * float(np.log(variances[:k]).sum() + (d - k) * np.log(rest))
    m = d * k - k * (k + 1) / 2
    constants = np.log(2 * np.pi) * (m + k) / 2 - k * np.log(n) / 2
    return float(volume + fit + constants - _curvature(variances, k, rest, n) / 2)


def _curvature(variances: Vector, k: int, rest: float, n: int) -> float:
    """Return the logarithm of the determinant of the second derivatives."""
    modelled = np.append(variances[:k], np.full(variances.size - k, rest))
    i, j = np.triu_indices(k, 1, variances.size)
    gaps = (variances[i] - variances[j]) * (1 / modelled[j] - 1 / modelled[i])
    return float((np.log(gaps) + np.log(n)).sum())
