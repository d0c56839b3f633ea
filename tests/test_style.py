"""ruff, mypy and the sizes that keep a module one idea."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULE_LINES = 400
BODY_LINES = 50  # reported, and a reason is due in review


def _tool(name: str, *args: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (hpcml[test] brings it)")
    done = subprocess.run(
        [sys.executable, "-m", name, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    _tool("ruff", "check", ".")


def test_mypy():
    _tool("mypy")


def bodies(source: str) -> list[tuple[int, int, str]]:
    """Return (lines of the body without its docstring, first line, name) of each function."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            start = node.body[1].lineno if documented and len(node.body) > 1 else node.body[0].lineno
            found.append((node.end_lineno - start + 1, node.lineno, node.name))
    return found


def test_modules_stay_one_idea():
    long = {}
    for path in sorted((ROOT / "hpcml").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        if (lines := source.count("\n")) > MODULE_LINES:
            long[str(name)] = lines
        for length, line, function in bodies(source):
            if length > BODY_LINES:
                what = f"{name}:{line} {function}: body of {length} lines (30 is the line to stop at)"
                warnings.warn(what, stacklevel=1)
    assert not long, f"modules over {MODULE_LINES} lines: {long}"


def test_bodies_are_measured_without_their_docstring():
    source = 'def f():\n    """One.\n\n    More.\n    """\n    a = 1\n    return a\n\n\ndef g(): pass\n'
    assert sorted(bodies(source)) == [(1, 10, "g"), (2, 1, "f")]
