"""argv -> one call."""

from __future__ import annotations

from hpcml.cli.main import main

__all__ = ["main"]
