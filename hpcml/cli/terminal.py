"""The one place that writes to the terminal."""

from __future__ import annotations

import sys

from hpcml.collectives.launch import launched_rank

__all__ = ["complain", "say", "speaks", "tell"]


def speaks() -> bool:
    """Whether this process speaks for its job, as far as the launcher's environment tells. Local."""
    return launched_rank() in (None, 0)


def tell(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def complain(sentence: str) -> None:
    """Write an error to standard error."""
    say(f"hpcml: error: {sentence}")
