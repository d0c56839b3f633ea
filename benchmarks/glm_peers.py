"""The contestants of benchmarks/glm.py: their environments and how one fit is run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

HOME = Path(__file__).resolve().parent / "peers"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ENVIRONMENTS = sorted(path.stem.partition("_")[2] for path in HOME.glob("requirements_*.txt"))


class Contestant(NamedTuple):
    """`environment` is none for hpcml, which runs here."""

    script: str
    environment: str | None = None


CONTESTANTS = {
    "hpcml": Contestant("run_hpcml.py"),
    "hpcml admm": Contestant("run_hpcml.py"),
    "scikit-learn": Contestant("run_sklearn.py", "sklearn"),
    "scikit-learn-intelex": Contestant("run_sklearnex.py", "sklearn"),
    "glum": Contestant("run_glum.py", "glum"),
    "adelie": Contestant("run_adelie.py", "adelie"),
    "skglm": Contestant("run_skglm.py", "numba"),
    "celer": Contestant("run_celer.py", "numba"),
    "snapml": Contestant("run_snapml.py", "snapml"),
    "dask-glm": Contestant("run_dask_glm.py", "dask"),
}


class Fit(NamedTuple):
    """What a fit gave, or in `failed` why there is none."""

    seconds: float = np.inf
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    grown: float = np.nan
    failed: str = ""


def prepare(home: Path) -> None:
    """Make the environments that are missing; one that does not build is reported."""
    for name in ENVIRONMENTS:
        here = home / name
        done = here / "installed"
        if done.exists():
            continue
        pip = [str(here / "bin" / "python"), "-m", "pip", "install", "-q"]
        subprocess.run([sys.executable, "-m", "venv", str(here)], check=True)
        argv = [*pip, "-r", str(HOME / f"requirements_{name}.txt")]
        found = subprocess.run(argv, text=True, stderr=subprocess.PIPE, check=False)
        if found.returncode == 0:
            done.touch()
        print(f"{name}: {'installed' if done.exists() else last_line(found.stderr)}", flush=True)


def last_line(text: str) -> str:
    """Return the last line that names an error, else the last one: a launcher adds lines of its own."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines or ["no message"])[-1]


def python_of(who: str, home: Path | None) -> Path | None:
    """Return the interpreter of a contestant, none where it is not installed."""
    environment = CONTESTANTS[who].environment
    if environment is None:
        return Path(sys.executable)
    if home is None or not (home / environment / "installed").exists():
        return None
    return home / environment / "bin" / "python"


def version_of(who: str, home: Path | None) -> str:
    python = python_of(who, home)
    if python is None:
        return "not installed (--prepare DIR installs it)"
    code = f"from importlib.metadata import version; print(version({who!r}))"
    return subprocess.run([python, "-c", code], text=True, capture_output=True, check=False).stdout.strip()


def launcher(cores: int) -> list[str]:
    return [str(Path(sys.prefix, "bin", "mpiexec")), "-n", str(cores)]


def own_environment(threads: int) -> dict[str, str]:
    """Return the environment of a contestant's process; ranks of hpcml have one thread each."""
    return os.environ | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": str(HOME.parent.parent)}


class Race(NamedTuple):
    """Where rows lie and who may run how long on them."""

    directory: Path
    home: Path | None
    cores: int
    patience: float

    def run(self, who: str, method: str, tol: float) -> Fit:
        """Fit once, in a process of its own that has read the rows before the clock starts."""
        python, script = python_of(who, self.home), CONTESTANTS[who].script
        if python is None:
            return Fit(failed="not installed")
        answer = self.directory / "answer.npz"
        answer.unlink(missing_ok=True)
        argv = [
            str(python),
            str(HOME / script),
            str(self.directory),
            method,
            str(tol),
            str(self.cores),
            str(answer),
        ]
        is_ours = who.startswith("hpcml")
        env = own_environment(1 if is_ours else self.cores)
        done = run_within([*launcher(self.cores) * is_ours, *argv], env, self.patience)
        if not answer.exists():
            return Fit(failed=done)
        with np.load(answer) as parts:
            return Fit(float(parts["seconds"]), parts["coef"], parts["intercept"], float(parts["grown"]))


def run_within(argv: list[str], env: dict[str, str], patience: float) -> str:
    """Run a command, and return the last line it complained with."""
    start = time.monotonic()
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return f"ended after {time.monotonic() - start:.0f} s with loading"
    return last_line(done.stderr) if done.returncode else "no answer"
