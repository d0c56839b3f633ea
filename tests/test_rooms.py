"""The import rule: rooms import downward only, each outside library has one door, `algorithms` knows no rank.

Imports inside functions and under TYPE_CHECKING count as well: a room that needs a type needs the room.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

HOUSE = Path(__file__).parent.parent / "hpcml"

# Rooms on one line do not import each other. process may raise errors' errors, nothing more.
FLOORS = [
    {"errors", "resources"},
    {"process"},
    {"collectives", "spec"},
    {"data"},
    {"io", "algorithms"},
    {"estimators"},
    {"run", "batch", "report"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {
    "mpi4py": "collectives",
    "h5py": "io",
    "pyarrow": "io",
    "yaml": "spec",
    "sklearn": "estimators",
    "subprocess": "process",
    "pty": "process",
}
NOWHERE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
STARTS_A_PROCESS = re.compile(r"system|popen|fork(pty)?|startfile|(posix_)?spawn\w*|exec[lv]\w*")


def room_of(module: str) -> str:
    """Return the room of a dotted name: hpcml.io.read.hdf5 is in io, hpcml itself in ''."""
    return module.partition(".")[2].partition(".")[0]


def words_of(identifier: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the dotted name that a `from` import names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _dynamic(node: ast.Call) -> str | None:
    """Return what `import_module("x")` or `__import__("x")` imports, if a literal says it."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in {"import_module", "__import__"} or not node.args:
        return None
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of all that is imported; `from hpcml import x` gives hpcml.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            names = [f"hpcml.{alias.name}" for alias in node.names] if base == "hpcml" else [base]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Call) and (name := _dynamic(node)):
            yield node.lineno, name


def direction(module: str, target: str) -> str | None:
    """Return what is wrong with `module` importing `target` of this house, or None."""
    here, there = room_of(module), room_of(target)
    if not here or here == there or target == "hpcml.__version__":
        return None  # hpcml/__init__.py may name anything, lazily
    if here not in FLOOR:
        return f"room {here!r} has no floor in tests/test_rooms.py"
    if there not in FLOOR:
        return f"{target}: name the room that owns it"
    if FLOOR[there] >= FLOOR[here]:
        return f"{here} may not import {there}"
    return None


def door(module: str, target: str) -> str | None:
    """Return what is wrong with importing the outside library `target`, or None."""
    top = target.partition(".")[0]
    if top in NOWHERE:
        return f"{top} is used nowhere"
    if top in DOORS and room_of(module) != DOORS[top]:
        return f"{top} is imported in {DOORS[top]} alone"
    return None


def _processes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the ways past process.py: os.system and its kin, and asyncio's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "os":
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "posix"}:
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("create_subprocess_"):
            yield node.lineno, f"{node.attr} belongs in process alone"
            continue
        else:
            continue
        yield from (
            (node.lineno, f"os.{name} belongs in process alone")
            for name in names
            if STARTS_A_PROCESS.fullmatch(name)
        )


def _pickled_arrays(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield `allow_pickle=` with anything but a plain False."""
    for node in ast.walk(tree):
        given = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if given and getattr(node.value, "value", None) is not False:
            yield node.value.lineno, "allow_pickle is never given but as False"


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every identifier: variables, attributes, arguments, keywords, functions, classes, aliases."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield line, value
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from ((line, name) for name in node.names)


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """Return what a module with this dotted name and source does against the rule, as "module:line: what"."""
    tree = ast.parse(source)
    found: list[tuple[int, str | None]] = []
    for line, target in imports(tree, module, is_package):
        inside = target == "hpcml" or target.startswith("hpcml.")
        found.append((line, direction(module, target) if inside else door(module, target)))
    if room_of(module) != "process":
        found.extend(_processes(tree))
    found.extend(_pickled_arrays(tree))
    if room_of(module) == "algorithms":
        found.extend(
            (line, f"{name!r}: algorithms do not know the word rank")
            for line, name in _names(tree)
            if {"rank", "ranks"} & words_of(name)
        )
    return [f"{module}:{line}: {what}" for line, what in sorted(set(found), key=str) if what]


def modules() -> list[tuple[str, Path]]:
    """Return (dotted name, file) of all modules of the house; installed jobs/ are programs, not rooms."""
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if room_of(name) not in {"jobs", "slurm"}:
            found.append((name, path))
    return found


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_house(module, path):
    problems = violations(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    assert not problems, "\n".join(problems)


def test_every_room_has_a_floor():
    rooms = {room_of(module) for module, _ in modules()} - {""}
    assert rooms <= set(FLOOR)
    assert {
        "errors",
        "collectives",
        "spec",
        "io",
        "algorithms",
        "cli",
    } <= rooms  # the walk does find the house


WRONG = [
    ("hpcml.io.read.hdf5", "from hpcml.algorithms import losses"),
    ("hpcml.algorithms.losses", "import hpcml.io.read.hdf5"),
    ("hpcml.data", "from .io import hdf5"),
    ("hpcml.io.dataset", "from ..estimators.linear import Ridge"),
    ("hpcml.io.dataset", "from .. import run"),
    ("hpcml.collectives.mpi", "from hpcml.spec import Spec"),
    ("hpcml.run.run", "from hpcml import report"),
    ("hpcml.run.run", "from hpcml import open_hdf5"),
    ("hpcml.run.run", "import hpcml"),
    ("hpcml.errors", "from hpcml.process import capture"),
    ("hpcml.spec.read", "def f():\n    from hpcml.run import Run"),
    (
        "hpcml.spec.read",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hpcml.data import Block",
    ),
    ("hpcml.spec.read", "import importlib\nimportlib.import_module('hpcml.run')"),
    ("hpcml.attic.box", "from hpcml.errors import SpecError"),
    ("hpcml.run.run", "from mpi4py import MPI"),
    ("hpcml", "import mpi4py.MPI"),
    ("hpcml.data", "def f():\n    import mpi4py"),
    ("hpcml.run.run", "__import__('h5py')"),
    ("hpcml.run.run", "import h5py"),
    ("hpcml.data", "import pyarrow.csv as csv"),
    ("hpcml.cli.main", "from yaml import safe_load"),
    ("hpcml.run.run", "from sklearn.base import clone"),
    ("hpcml.run.run", "import subprocess"),
    ("hpcml.run.run", "from subprocess import run"),
    ("hpcml.run.run", "import os\nos.system('ls')"),
    ("hpcml.run.run", "import os\nos.execvp('ls', ['ls'])"),
    ("hpcml.run.run", "from os import popen as p"),
    ("hpcml.run.run", "import asyncio\nasyncio.create_subprocess_exec('ls')"),
    ("hpcml.io.model", "import pickle"),
    ("hpcml.process", "import marshal"),
    ("hpcml.estimators.linear", "from joblib import dump"),
    ("hpcml.io.model", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    ("hpcml.algorithms.solver", "rank = 0"),
    ("hpcml.algorithms.solver", "def f(comm): return comm.rank"),
    ("hpcml.algorithms.solver", "def f(n_ranks): pass"),
    ("hpcml.algorithms.solver", "def rank_of(x): pass"),
    ("hpcml.algorithms.solver", "f(local_rank=1)"),
    ("hpcml.algorithms.solver", "class PerRankSum: pass"),
    ("hpcml.algorithms.solver", "from m import rank"),
    ("hpcml.algorithms.solver", "import numpy as np\nnp.linalg.matrix_rank(X)"),
]
RIGHT = [
    ("hpcml", "from hpcml.estimators import Ridge\nimport hpcml.run"),
    (
        "hpcml.io.read.hdf5",
        "import h5py\nfrom hpcml.data import Block\nfrom .cache import x\nfrom ..errors import E",
    ),
    ("hpcml.run.run", "from hpcml import __version__, io\nfrom hpcml.algorithms.solver import run_solver"),
    ("hpcml.process", "import subprocess, os\nos.execv('x', [])\nfrom hpcml.errors import HpcmlError"),
    ("hpcml.collectives.mpi", "from mpi4py import MPI\ndef rank(comm): return comm.rank"),
    ("hpcml.estimators.linear", "from sklearn.base import BaseEstimator"),
    ("hpcml.algorithms.solver", "'rank'\n# rank\nfranklin = branks = 1\nclass Frank: pass"),
    ("hpcml.algorithms.solver", "import os\nos.environ, os.path.exists\nnp.load(x, allow_pickle=False)"),
    ("hpcml.spec.read", "import importlib\nimportlib.import_module(name)"),
    ("hpcml.cli.main", "from hpcml.run.run import Run\nimport pickletools_not_it"),
    ("hpcml.__main__", "from hpcml.cli import main"),
]


@pytest.mark.parametrize(("module", "source"), WRONG)
def test_the_checker_sees(module, source):
    assert violations(module, source)


@pytest.mark.parametrize(("module", "source"), RIGHT)
def test_the_checker_lets_pass(module, source):
    assert not violations(module, source)


def test_a_package_resolves_its_own_relative_imports():
    assert violations("hpcml.io", "from ..run import Run", is_package=True)
    assert violations("hpcml.io", "from .run import x", is_package=True) == []  # hpcml.io.run, its own
    assert violations("hpcml.io.read.hdf5", "from .run import x") == []


def test_importing_the_package_starts_nothing():
    heavy = "{'mpi4py', 'h5py', 'sklearn', 'scipy', 'yaml', 'pyarrow', 'pandas'}"
    code = (
        f"import sys; old = set(sys.modules); import hpcml; print(sorted({heavy} & set(sys.modules) - old))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOUSE.parent,
        env=harness.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"
