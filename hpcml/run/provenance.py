"""Where a result came from: versions, machines, commands, inputs."""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from hpcml.process import capture

__all__ = ["collect", "fingerprint", "host_name"]

_PACKAGES = ("hpcml", "numpy", "scipy", "h5py", "mpi4py", "scikit-learn", "pyarrow", "PyYAML")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(directory: Path) -> dict[str, str | bool] | None:
    commit = capture(["git", "rev-parse", "HEAD"], cwd=str(directory))
    if commit is None:
        return None
    changed = capture(["git", "status", "--porcelain"], cwd=str(directory))
    return {"commit": commit, "changed": bool(changed)}


def host_name() -> str:
    """Return this node's name. Local."""
    return socket.gethostname()


def fingerprint(path: Path) -> dict[str, Any] | None:
    """Return a file's size and time of change, which tell cheaply that it is the same file. Local."""
    try:
        status = path.stat()
    except OSError:
        return None
    return {"path": str(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def collect(spec_directory: Path) -> dict[str, Any]:
    """Return what one process knows of itself. Local.

    Starts git, so it is called before MPI is: some MPI libraries do not survive a fork.
    """
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git": _git(spec_directory),
        "slurm": {key: value for key, value in sorted(os.environ.items()) if key.startswith("SLURM_")},
        "working_directory": str(Path.cwd()),
    }
