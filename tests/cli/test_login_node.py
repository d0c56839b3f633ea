"""A login node may have no MPI and no HDF5: what does not need them works there, and starts nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness
import pytest
import small

VERBS = [
    "run", "resume", "validate", "show", "convert", "generate", "rechunk", "inspect", "stats", "predict",
    "evaluate",
]  # fmt: skip
BLOCKED = """
import runpy, sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
try:
    runpy.run_module("hpcml", run_name="__main__", alter_sys=True)
finally:
    loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    sys.stderr.write("loaded: " + ",".join(sorted(loaded)))
"""
HEAVY = {"mpi4py", "h5py", "numpy", "scipy", "sklearn", "pyarrow", "threadpoolctl"}


def _without(modules: str, *words: str | Path) -> tuple[harness.Completed, set[str]]:
    done = harness.run_job([sys.executable, "-c", BLOCKED, modules, *map(str, words)], check=0)
    return done, set(done.stderr.rpartition("loaded: ")[2].split(","))


def test_help_of_every_verb():
    # One process: argparse ends each call with SystemExit.
    code = """
import contextlib, io, json, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from hpcml.cli import main
texts = {}
for verb in ["", *sys.argv[2].split(",")]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([verb, "--help"] if verb else ["--help"])
    texts[verb] = out.getvalue()
print(json.dumps(texts))
"""
    done = harness.run_job([sys.executable, "-c", code, ",".join(HEAVY), ",".join(VERBS)], check=0)
    texts = json.loads(done.stdout)
    assert all(verb in texts[""] for verb in VERBS)
    for verb in VERBS:
        assert texts[verb].startswith(f"usage: hpcml {verb} ")
        assert "exit codes: 0 done; 1 internal error; 2 bad spec or usage; 3 bad data" in " ".join(
            texts[verb].split()
        )


@pytest.mark.parametrize("words", [["--version"], ["validate", "SPEC"], ["show", "SPEC"], ["show", "--keys"]])
def test_what_needs_neither_mpi_nor_hdf5(rows, tmp_path, words):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    done, loaded = _without(
        "mpi4py,h5py,numpy,sklearn", *[spec if word == "SPEC" else word for word in words]
    )
    assert done.stdout and not HEAVY & loaded


def test_inspect_needs_no_mpi(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", "checkpoint.every=1", check=0)
    checkpoint = next((tmp_path / "run" / "checkpoints").iterdir())
    for path in (rows, tmp_path / "run", tmp_path / "run" / "model.h5", checkpoint):
        done, loaded = _without("mpi4py,sklearn", "inspect", path)
        assert done.stdout and "mpi4py" not in loaded


def test_a_run_of_one_rank_needs_no_mpi(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    done, loaded = _without("mpi4py,sklearn,pyarrow,pandas", "run", spec, f"output.dir={tmp_path / 'run'}")
    assert "converged" in done.stdout and "mpi4py" not in loaded


def test_without_a_launcher_minus_n_says_what_to_install(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    # sys.prefix is where the environment's own mpiexec would be.
    code = "import sys; sys.prefix = '/nowhere'; from hpcml.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "run", str(spec), "-n", "2"]
    done = harness.run_job(argv, env={"PATH": str(tmp_path), "HPCML_MPIEXEC": None}, check=2)
    assert "there is no mpiexec or mpirun" in done.stderr and "hpcml[mpi]" in done.stderr
