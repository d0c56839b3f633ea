"""Where the example jobs and the Slurm templates are, in a checkout as after an installation."""

from __future__ import annotations

from pathlib import Path

__all__ = ["jobs_directory", "slurm_directory"]

_PACKAGE = Path(__file__).resolve().parent


def _home(name: str) -> Path:
    """Return the directory inside an installed package, or beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def jobs_directory() -> Path:
    """Return the directory of the example specs and programs. Local."""
    return _home("jobs")


def slurm_directory() -> Path:
    """Return the directory of the sbatch templates. Local."""
    return _home("slurm")
