"""What every fitted model has, whatever it is a model of."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Model"]


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
