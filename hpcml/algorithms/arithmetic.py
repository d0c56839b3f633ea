"""Which arithmetic this process computes with: what the same bits depend on besides data and spec."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from hpcml.algorithms.kernels.choice import chosen

__all__ = ["arithmetic_family"]

_FUNCTIONS = ("exp", "log1p", "add", "multiply")


def arithmetic_family() -> str:
    """Return the kernels, the BLAS with version and core type, and NumPy's version and vector code. Local.

    The compiled kernels give the same bits for every instruction set. OpenBLAS and NumPy choose code by
    processor, OpenBLAS also by threads; two processes whose names are equal give the same bits.

    Raises
    ------
    SpecError
        ``HPCML_KERNELS`` names kernels that are not there.
    """
    libraries = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    blas = [
        f"{one['internal_api']} {one.get('version')} {one.get('architecture', '')}, "
        f"{one['num_threads']} thread(s)"
        for one in libraries
    ]
    kernels = "numpy" if chosen() == "numpy" else "compiled"
    return f"{kernels} kernels; {', '.join(blas) or 'unknown BLAS'}; numpy {np.__version__} {_vector_code()}"


def _vector_code() -> str:
    """Return the instruction sets that NumPy's loops over float64 run with."""
    found = set()
    for name in _FUNCTIONS:
        loops = np.lib.introspect.opt_func_info(func_name=f"^{name}$", signature="float64").get(name, {})
        found |= {loop["current"] for loop in loops.values() if "current" in loop}
    return "+".join(sorted(found)) or "baseline"
