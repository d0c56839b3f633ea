"""BLAS on one thread, where its sums reach a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import threadpoolctl

__all__ = ["one_blas_thread"]


class _Limit:
    """The process's limit and how many hold it: BLAS knows one number for all of our threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.limits: Any = None


_LIMIT = _Limit()


def _take_control() -> None:
    """Let this thread set OpenBLAS's threads: threadpoolctl 3.8 ignores all but the first that did."""
    controller: Any = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS on one thread: its sums, and so their bits, depend on the number of threads. Local.

    The first to enter sets the limit and the last to leave lifts it: each on its own would let a thread
    that ends early hand back its threads while another is still at work.
    """
    with _LIMIT.lock:
        if _LIMIT.holders == 0:
            _take_control()
            _LIMIT.limits = threadpoolctl.threadpool_limits(1, user_api="blas")
        _LIMIT.holders += 1
    try:
        yield
    finally:
        with _LIMIT.lock:
            _LIMIT.holders -= 1
            if _LIMIT.holders == 0:
                _take_control()
                _LIMIT.limits.restore_original_limits()
