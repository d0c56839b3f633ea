"""Signs of singular vectors by a rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["with_fixed_signs"]


def with_fixed_signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows whose largest element in size, the first of equals, is positive. Local.

    Parameters
    ----------
    components : (k, n_features) array
    """
    largest = np.argmax(np.abs(components), axis=1)
    signs = np.where(components[np.arange(len(components)), largest] < 0, -1.0, 1.0)
    return np.asarray(components * signs[:, None])
