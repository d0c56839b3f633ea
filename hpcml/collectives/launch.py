"""What the launcher's environment says about this process, read without MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["expected_size", "is_launched", "launched_rank", "size_variable"]

_SIZES = (
    "HPCML_EXPECT_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
)
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID")


def expected_size(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of ranks that the launcher says it started, or None. Local.

    SLURM_STEP_NUM_TASKS is set by srun alone; SLURM_NTASKS is also set in the batch shell
    and says nothing about this process.
    """
    name = size_variable(environ)
    return int(environ[name]) if name else None


def size_variable(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the name of the variable that says how many ranks there are, or None. Local."""
    return next((name for name in _SIZES if environ.get(name, "").isdigit()), None)


def launched_rank(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return this process's rank as the launcher's environment has it, or None. Local."""
    names = _RANKS + (("SLURM_PROCID",) if "SLURM_STEP_NUM_TASKS" in environ else ())
    values = [environ[name] for name in names if environ.get(name, "").isdigit()]
    return int(values[0]) if values else None


def is_launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether an MPI launcher started this process. Local."""
    return launched_rank(environ) is not None
