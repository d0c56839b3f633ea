"""What the callback of any iterative method is told."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Where a method stands after an iteration."""

    @property
    def loop(self) -> Any:
        """All that resuming needs: a NamedTuple with `n_iter`."""

    @property
    def figures(self) -> dict[str, float]:
        """Numbers by name, for a journal."""

    @property
    def sentence(self) -> str:
        """The same for a reader, in a few words."""
