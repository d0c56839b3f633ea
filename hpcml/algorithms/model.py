"""What every fitted model has, whatever it is a model of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Model", "model_digest"]


class Model(Protocol):
    """Numbers by name, and a digest of them."""

    @property
    def kind(self) -> str:
        """The type in specs, `model.type`."""

    @property
    def n_features(self) -> int:
        """Columns of the rows that it takes."""

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of all its numbers, in hexadecimal digits."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its numbers by name, for a file. Local."""


def model_digest(kind: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 over a model's type and the bits of its numbers, in order. Local."""
    hasher = hashlib.sha256(kind.encode())
    for part in arrays.values():
        hasher.update(np.array([part.size], "<i8").tobytes() + part.astype("<f8").tobytes())
    return hasher.hexdigest()
