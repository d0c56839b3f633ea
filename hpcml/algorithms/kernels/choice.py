"""Which kernels run: the compiled ones, for an instruction set of this processor, or NumPy."""

from __future__ import annotations

import os
from functools import lru_cache
from types import ModuleType

from hpcml.errors import SpecError

__all__ = ["VARIABLE", "available", "chosen", "compiled"]

VARIABLE = "HPCML_KERNELS"


@lru_cache(1)
def compiled() -> ModuleType | None:
    """Return the extension module, or None where it was not built. Local."""
    try:
        from hpcml.algorithms.kernels import _compiled  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _compiled  # type: ignore[no-any-return]


def available() -> tuple[str, ...]:
    """Return the names that ``HPCML_KERNELS`` may have here besides auto, the best first. Local."""
    module = compiled()
    return (*(module.instruction_sets() if module else ()), "numpy")


def chosen() -> str:
    """Return ``numpy`` or the instruction set that the compiled kernels use. Local.

    The environment variable ``HPCML_KERNELS`` forces one of `available`; ``auto`` takes the first.

    Raises
    ------
    SpecError
        The variable names what is not there.
    """
    return _resolved(os.environ.get(VARIABLE, "auto"))


@lru_cache
def _resolved(wanted: str) -> str:
    names = available()
    if wanted == "auto":
        return names[0]
    if wanted not in names:
        raise SpecError(f"{VARIABLE}={wanted} is not there: this build has {', '.join(names)} and auto here")
    return wanted
