"""Small HDF5 files, specs and commands for tests of whole jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import harness
import numpy as np
from scipy import sparse

N_ROWS, N_COLUMNS = 600, 6
COMMANDS = Path(__file__).parent / "run" / "commands.py"
# Ten shards of one block; without it these rows are one shard.
CUT = {"block_rows": 64, "shard_bytes": 64 * N_COLUMNS * 8}


def put_csr(file: h5py.File, name: str, matrix: sparse.csr_array) -> h5py.Group:
    """Write a CSR group."""
    group = file.create_group(name)
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(matrix, part)
    group.attrs["shape"] = matrix.shape
    return group


def make_rows(path: Path, n: int = N_ROWS) -> Path:
    """Write X (stored in several ways), labels y, a target t and weights w."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, N_COLUMNS)) * np.geomspace(0.3, 3, N_COLUMNS)
    true = rng.normal(size=N_COLUMNS)
    noise = rng.normal(size=n)
    sparser = np.where(rng.random(X.shape) < 0.6, 0.0, X)
    with h5py.File(path, "w") as file:
        file["X"] = X
        file.create_dataset("chunked", data=X, chunks=(48, N_COLUMNS), compression="gzip", shuffle=True)
        file["float32"] = X.astype(np.float32)
        file["integers"] = np.round(X).astype(np.int16)
        file["rounded"] = np.round(X)
        file["zeros"] = sparser
        put_csr(file, "S", sparse.csr_array(sparser))
        file["y"] = (X @ true + noise > 0.5).astype(np.int8)
        file["t"] = X @ true + noise
        file["w"] = rng.uniform(0.5, 2.0, n)
    return path


@contextmanager
def changed(source: Path, path: Path) -> Iterator[h5py.File]:
    """Copy a file and open the copy to change it."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        yield file


def tree(data: Path, **keys: Any) -> dict[str, Any]:
    """Return a spec as a tree; dotted keys are written with two underscores."""
    spec: dict[str, Any] = {
        "name": "small",
        "data": {"path": str(data), "partition": CUT},
        "model": {"type": "logistic_regression", "alpha": 0.01},
        "solver": {"name": "lbfgs", "tol": 1e-8, "max_iter": 400},
        "checkpoint": {"every": "none"},
    }
    for key, value in keys.items():
        *sections, last = key.split("__")
        place = spec
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return spec


def write_spec(path: Path, data: Path, **keys: Any) -> Path:
    """Write a spec file; JSON is YAML."""
    path.write_text(json.dumps(tree(data, **keys), indent=1))
    return path


def hpcml(*args: str | Path, **options: Any) -> harness.Completed:
    """Run the command in a process of its own, without a launcher."""
    return harness.run_job([sys.executable, "-m", "hpcml", *map(str, args)], **options)


class Ended(NamedTuple):
    """What one rank saw of a command."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def commands(
    n: int, lines: Sequence[Sequence[str | Path]], folder: Path, **options: Any
) -> list[list[Ended]]:
    """Run command lines one after the other on the same n ranks; return [command][rank].

    One start of MPI serves many commands. n = 1 is a process without a launcher.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = folder / "commands.json"
    todo.write_text(json.dumps([[str(word) for word in line] for line in lines]))
    words = (COMMANDS, todo, folder)
    if n == 1:
        harness.run_job([sys.executable, *map(str, words)], check=0, **options)
    else:
        harness.mpirun(n, *words, check=0, **options)
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(n)]
    return [[Ended(*rank[i]) for rank in ranks] for i in range(len(lines))]


def result_of(run: Path) -> dict[str, Any]:
    """Return result.json."""
    return dict(json.loads((run / "result.json").read_text()))


def iterations(run: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without its seconds."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below a directory."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fault(folder: Path, faults: Mapping[str, Any], **env: str) -> dict[str, str]:
    """Return an environment in which ranks go wrong as tests/run/faults/sitecustomize.py reads it."""
    path = ":".join([str(COMMANDS.with_name("faults")), str(harness.ROOT)])
    return {"PYTHONPATH": path, "HPCML_TEST_FAULT": json.dumps(faults), **env}
