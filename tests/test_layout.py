"""What a checkout, a wheel and the README must hold, and that they agree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    "name",
    [
        "setup.py", "pyproject.toml", "README.rst", "CHANGES.rst", "CONTRIBUTING.rst", "LICENSE", ".ci/run",
        ".pre-commit-config.yaml", "docs/install_site_mpi.rst", "jobs", "slurm/job.sbatch", "benchmarks",
    ],
)  # fmt: skip
def test_the_checkout_has(name):
    assert (ROOT / name).exists()


def test_the_licence_is_the_declared_one():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("BSD 3-Clause License") and "hpcml developers" in text
    assert PROJECT["license"] == "BSD-3-Clause"


def test_an_mpi_library_is_never_a_plain_dependency():
    names = {re.match(r"[A-Za-z0-9_-]+", word).group().lower() for word in PROJECT["dependencies"]}
    assert names == {"numpy", "scipy", "h5py", "mpi4py", "scikit-learn", "pyyaml", "threadpoolctl", "xxhash"}
    extras = PROJECT["optional-dependencies"]
    assert set(extras) >= {"mpi", "openmpi", "examples", "filters", "parquet", "test", "docs", "bench"}
    for words in extras.values():  # two MPI libraries in one environment never agree
        assert len({"mpich", "openmpi"} & {re.split(r"\W", word)[0] for word in words}) < 2


@pytest.mark.parametrize(
    "name", [".ci/run", *(str(p.relative_to(ROOT)) for p in ROOT.glob("slurm/*.sbatch"))]
)
def test_shell_text_parses(name):
    done = subprocess.run(
        ["bash", "-n", name], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("from_srun", "error_json", "expected"),
    [
        (0, None, 0),
        (75, None, 75),
        (4, '{"exit_code": 3}', 4),  # a code of hpcml's own is not looked up
        (137, None, 1),
        (137, '{"message": "x",\n "exit_code": 3, "rank": 1}', 3),
        (137, "{}", 1),
    ],
)
def test_the_slurm_template_returns_hpcmls_code(tmp_path, from_srun, error_json, expected):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    write = f"printf '%s' {shlex.quote(error_json)} > runs/hpcml/7/error.json" if error_json else ":"
    srun = tmp_path / "srun"
    srun.write_text(f'#!/bin/bash\necho "$@" > argv\nmkdir -p runs/hpcml/7\n{write}\nexit {from_srun}\n')
    srun.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NAME": "hpcml", "SLURM_JOB_ID": "7"}
    argv = ["bash", str(ROOT / "slurm" / "job.sbatch"), "a b.yaml", "solver.tol=1"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, timeout=30, check=False)
    assert done.returncode == expected
    words = (tmp_path / "argv").read_text().strip()
    assert words.startswith("--mpi=pmi2 ")
    assert words.endswith("-m hpcml run a b.yaml solver.tol=1 output.dir=runs/hpcml output.id=7")


def _readme_commands() -> dict[str, str]:
    """Return name -> text of the marked literal blocks, by a way of reading that is not .ci/run's."""
    pattern = r"^\.\. command: ([a-z-]+)\n\n::\n\n((?:    .*\n|\n)+)"
    found = re.findall(pattern, README, re.MULTILINE)
    return {name: "".join(line[4:] + "\n" for line in text.splitlines() if line) for name, text in found}


def test_ci_runs_exactly_the_commands_of_the_readme():
    done = subprocess.run(
        [str(ROOT / ".ci/run"), "--list"], capture_output=True, text=True, timeout=30, check=True
    )
    commands = _readme_commands()
    assert list(commands)[:2] == ["run", "test"]
    assert done.stdout == "".join(f"# {name}\n{text}" for name, text in commands.items())
    assert "hpcml run jobs/flights_delay.yaml" in commands["run"]
    assert "pytest" in commands["test"]


def test_the_readme_names_files_that_exist():
    first = README.partition("Read these five files first")[2]
    paths = list(dict.fromkeys(re.findall(r"``(hpcml/[\w/]+\.py)``", first)))
    assert len(paths) == 5
    assert not [path for path in paths if not (ROOT / path).is_file()]


def test_the_readme_has_every_exit_code():
    section = README.partition("\nExit codes\n")[2].partition("\nScaling\n")[0]
    table = re.findall(r"^(\d+) {2,}\S", section, re.MULTILINE)
    assert table == ["0", "1", "2", "3", "4", "5", "75"]


def _build_wheel(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    keep = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "data", "runs", "*.h5")
    shutil.copytree(ROOT, tree, ignore=keep)
    (tree / "jobs" / "data").mkdir()
    (tree / "jobs" / "data" / "left_behind.py").write_text("")
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    argv = [sys.executable, "-m", "pip", "wheel", "-q", *offline, "-w", "out", "."]
    done = subprocess.run(argv, cwd=tree, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "out").glob("hpcml-*.whl")
    return wheel


def test_a_plain_install_holds_jobs_and_slurm(tmp_path):
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("the wheel needs setuptools >= 77 (hpcml[test] brings it)")
    wheel = _build_wheel(tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for home in ("jobs", "slurm"):
        here = {
            p.name for p in (ROOT / home).glob("*") if p.suffix in {".py", ".rst", ".sbatch", ".sh", ".yaml"}
        }
        assert {p.name for p in (site / "hpcml" / home).glob("*")} == here
    for home, name in (("algorithms/kernels", "_compiled.abi3.so"), ("collectives", "_limbs.abi3.so")):
        names = {p.name for p in (site / "hpcml" / home).iterdir()}
        assert not [name for name in names if name.endswith((".c", ".h"))]
        assert bool(shutil.which("cc") or shutil.which("gcc")) == (name in names)
    code = "import hpcml; print(hpcml.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{site / 'hpcml' / '__init__.py'}\n"


def test_the_version_is_read_without_importing():
    init = (ROOT / "hpcml" / "__init__.py").read_text(encoding="utf-8")
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+"$', init, re.MULTILINE)
    assert PROJECT["dynamic"] == ["version"]
