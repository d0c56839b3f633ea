"""Synthetic data: what may be asked for, the truth behind it, and its random numbers.

Rows are made a block at a time from counter-based random numbers that are keyed by the seed, by what they are
for, and by the number of the block. So a row is a function of its number alone, and of no other row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import SpecError
from hpcml.spec.schema_generate import GENERATED, misfit

__all__ = ["STREAMS", "Synthetic", "Truth", "generator", "make_truth"]

_BLOCK_BYTES = 512 << 10
_BLOCK_ROWS = 4096
_NOISE = {"classification": 0.01, "sparse": 0.01, "regression": 1.0, "counts": 0.0, "blobs": 1.0}
_INFORMATIVE = 10
_BOX = 10.0
_LARGEST_TRUTH = 1 << 27
STREAMS = {name: i for i, name in enumerate(("truth", "features", "positions", "labels", "weights"))}
"""What random numbers are for: part of the format."""


@dataclass(frozen=True)
class Synthetic:
    """A recipe of synthetic rows.

    Parameters
    ----------
    kind : {"classification", "regression", "counts", "blobs", "sparse"}
    rows, features : int
    classes : int
        Of classification and sparse.
    informative : int, optional
        Features that y depends on, at most 10 by default, all of them for sparse.
    centers : int
        Of blobs.
    noise : float, optional
        Deviation of what is added to y (regression, 1) or to the log of the rate (counts, 0), deviation of a
        blob (1), or share of the labels that are drawn at random (classification and sparse, 0.01).
    density : float
        Share of sparse X that is not zero.
    condition : float
        Condition number of the covariance of dense X: features of several scales, all correlated.
    weights : bool
        Whether rows have weights, uniform in [0.5, 1.5).
    seed : int
    dtype : {"float64", "float32"}
        Of X; float32 is float64, rounded.

    Raises
    ------
    SpecError
        A value out of range, or one that does not fit the kind.
    """

    kind: str
    rows: int
    features: int
    classes: int = 2
    informative: int | None = None
    centers: int = 3
    noise: float | None = None
    density: float = 0.01
    condition: float = 1.0
    weights: bool = False
    seed: int = 0
    dtype: str = "float64"

    def __post_init__(self) -> None:
        self._check_ranges()
        changed = {one.name for one in fields(self) if getattr(self, one.name) != one.default}
        found = misfit(vars(self), changed)
        if found is not None:
            raise SpecError(f"generate: {found[0]} {found[1]}")

    def _check_ranges(self) -> None:
        """Raise a SpecError for a value that no kind takes."""
        allowed = {
            "kind": self.kind in GENERATED,
            "rows": 1 <= self.rows < 2**62,
            "features": 1 <= self.features < 2**31,
            "classes": 2 <= self.classes <= 10**6,
            "informative": self.informative is None or self.informative >= 1,
            "centers": 1 <= self.centers <= 10**6,
            "noise": self.noise is None or 0.0 <= self.noise < np.inf,
            "density": 0.0 < self.density <= 1.0,
            "condition": 1.0 <= self.condition < np.inf,
            "seed": 0 <= self.seed < 2**64,
            "dtype": self.dtype in ("float64", "float32"),
        }
        for name, fits in allowed.items():
            if not fits:
                raise SpecError(
                    f"generate: {name} {getattr(self, name)!r} does not fit{_LISTED.get(name, '')}"
                )

        n_outputs = {"blobs": self.centers, "classification": self.classes, "sparse": self.classes}
        if self.features * n_outputs.get(self.kind, 1) > _LARGEST_TRUTH:
            raise SpecError(
                "generate: coefficients or centres would have over 1 GiB; write fewer features, classes or "
                "centers"
            )

    @property
    def n_informative(self) -> int:
        """Features that y depends on."""
        most = self.features if self.is_sparse else min(_INFORMATIVE, self.features)
        return self.informative or most

    @property
    def noise_level(self) -> float:
        """The noise, given or by kind."""
        return float(_NOISE[self.kind] if self.noise is None else self.noise)

    @property
    def is_sparse(self) -> bool:
        """Whether X is in CSR form."""
        return self.kind == "sparse"

    @cached_property
    def block_rows(self) -> int:
        """Rows of a block: the power of two with about 512 KiB, at most 4096."""
        row_bytes = self.features * (12 * self.density if self.is_sparse else 8) + 8 * self.classes
        fitting = int(max(_BLOCK_BYTES / row_bytes, 1.0)).bit_length() - 1
        return min(1 << fitting, _BLOCK_ROWS)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    def describe(self) -> dict[str, Any]:
        """Return the recipe as JSON can say it. Local."""
        return {**asdict(self), "informative": self.n_informative, "noise": self.noise_level}


_LISTED = {
    "kind": f"; write one of {', '.join(GENERATED)}",
    "dtype": "; write float64 or float32",
    "density": "; write a number in (0, 1]",
    "condition": "; write a number >= 1",
    "classes": "; write an integer >= 2",
    "rows": "; write an integer >= 1",
    "features": "; write an integer in [1, 2147483647]",
}


@dataclass(frozen=True)
class Truth:
    """What the rows are drawn from.

    Parameters
    ----------
    coef : (n_outputs, features) array, or None
        Of the linear part; one output, or one a class where there are more than two.
    intercept : (n_outputs,) array, or None
    centers : (n_centers, features) array, or None
    scales : (features,) array, or None
        Deviations of the features before they are mixed.
    mirror : (features,) array, or None
        Unit vector v of the reflection ``1 - 2 v v'`` that mixes them.
    """

    coef: NDArray[np.float64] | None = None
    intercept: NDArray[np.float64] | None = None
    centers: NDArray[np.float64] | None = None
    scales: NDArray[np.float64] | None = None
    mirror: NDArray[np.float64] | None = None

    @cached_property
    def used(self) -> NDArray[np.int64]:
        """The features that y depends on, in order."""
        assert self.coef is not None
        return np.flatnonzero(self.coef.any(axis=0))


def generator(seed: int, stream: str, block: int) -> np.random.Generator:
    """Return the random numbers of a block for one purpose: Philox, doi:10.1145/2063384.2063405. Local."""
    key = np.array([seed, STREAMS[stream]], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, block], np.uint64)))


def make_truth(settings: Synthetic) -> Truth:
    """Return coefficients or centres, a function of the settings without the rows. Local."""
    random = generator(settings.seed, "truth", 0)
    d = settings.features
    if settings.kind == "blobs":
        return Truth(centers=random.uniform(-_BOX, _BOX, (settings.centers, d)))
    n_outputs = settings.classes if settings.classes > 2 else 1
    used = np.sort(random.permutation(d)[: settings.n_informative])
    coef = np.zeros((n_outputs, d))
    coef[:, used] = random.standard_normal((n_outputs, used.size)) * _size_of_coef(settings)
    intercept = random.standard_normal(n_outputs)
    if settings.condition == 1.0 or d == 1:
        return Truth(coef, intercept)
    scales = np.geomspace(1.0, settings.condition**-0.5, d)
    mirror = random.standard_normal(d)
    return Truth(coef, intercept, None, random.permutation(scales), mirror / np.sqrt((mirror**2).sum()))


def _size_of_coef(settings: Synthetic) -> float:
    """Return the deviation of coefficients that keeps labels learnable and counts small."""
    if settings.kind == "counts":
        return float(0.5 / np.sqrt(settings.n_informative))
    if settings.is_sparse:
        return float(3.0 / np.sqrt(max(settings.density * settings.n_informative, 1.0)))
    return 1.0
