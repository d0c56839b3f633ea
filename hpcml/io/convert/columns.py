"""A column of a table on this rank: numbers, or codes of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column"]


@dataclass
class Column:
    """Values of a column on this rank: numbers with NaN, or codes into `texts` with -1, where missing."""

    name: str
    values: NDArray[Any]
    texts: list[str] | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value."""
        lost: NDArray[np.bool_] = np.isnan(self.values) if self.texts is None else self.values < 0
        return lost

    def used_texts(self) -> list[str]:
        """Return the texts that occur. Local."""
        codes = np.unique(self.values)
        return [] if self.texts is None else [self.texts[code] for code in codes if code >= 0]

    def recode(self, vocabulary: Sequence[str], missing: int = -1) -> NDArray[np.int32]:
        """Return codes into `vocabulary`, and `missing` where there is no value. Local."""
        places = {text: i for i, text in enumerate(vocabulary)}
        table = [places.get(text, -1) for text in self.texts or []]
        codes: NDArray[np.int32] = np.array([*table, missing], np.int32)[self.values]
        return codes
