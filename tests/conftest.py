"""Fixtures that every test may use, and the rule that the outer process never imports mpi4py."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from hypothesis import settings

# A deadline measures the machine's other users; the answer is what a property test is about.
settings.register_profile("hpcml", deadline=None)
settings.load_profile("hpcml")

INSIDE_MPI = any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"))
# What runs under mpiexec is started by a test of the outer process.
collect_ignore = [] if INSIDE_MPI else ["spmd"]
_first_importer = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def mpirun() -> Callable[..., harness.Completed]:
    """`mpirun(n, script or argv, *args, timeout=60, env=None, check=None, cwd=None)`: see harness.mpirun."""
    return harness.mpirun


@pytest.fixture
def spmd(tmp_path: Path) -> Callable[..., harness.Completed]:
    """`spmd(n, text, *args, ...)`: write the program `text` under tmp_path and run it as mpirun does."""
    numbers = itertools.count()

    def run(n: int, text: str, *args: str | Path, **options: Any) -> harness.Completed:
        script = tmp_path / f"spmd{next(numbers)}.py"
        script.write_text(textwrap.dedent(text), encoding="utf-8")
        return harness.mpirun(n, script, *args, **options)

    return run


def _note_mpi4py(config: pytest.Config, where: str) -> None:
    if not INSIDE_MPI and "mpi4py" in sys.modules and _first_importer not in config.stash:
        config.stash[_first_importer] = where


def pytest_collection_finish(session: pytest.Session) -> None:
    """Catch an import of mpi4py at the top of a test file."""
    _note_mpi4py(session.config, "a test file, when it was collected")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Remember the test after which mpi4py was there."""
    _note_mpi4py(item.config, item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if mpi4py was imported into it."""
    _note_mpi4py(session.config, "the end of the session")
    if _first_importer in session.config.stash:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say who imported mpi4py."""
    if where := config.stash.get(_first_importer, None):
        terminalreporter.section("mpi4py was imported in the process that runs pytest", sep="=", red=True)
        terminalreporter.line(f"first seen after: {where}. Use the fixture mpirun or spmd.")
