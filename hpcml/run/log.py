"""log.txt of a run, and the few lines that go to the user at once."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

__all__ = ["keep_quiet", "open_log", "warn"]


def open_log(path: Path, level: str) -> None:
    """Append the package's log records to a file. Local: one process calls it."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("hpcml")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    logger.propagate = False


def keep_quiet() -> None:
    """Keep the package's records off the terminal: what a user must read goes there by itself. Local."""
    logging.getLogger("hpcml").addHandler(logging.NullHandler())


def warn(sentence: str) -> None:
    """Write a sentence to standard error and the log. Local."""
    logging.getLogger("hpcml").warning(sentence)
    sys.stderr.write(f"hpcml: {sentence}\n")
    sys.stderr.flush()
