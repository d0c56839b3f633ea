"""What a rank opens and imports when it starts: a thousand of them do so at once."""

import sys

import h5py
import harness
import numpy as np
import pytest

MOST_OPENS = 500
MOST_OPENS_OF_THE_FIRST = 570  # it writes the run directory and collects provenance
SITE = """
import atexit, os, sys

opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)


def leave():
    with open(f"{os.environ['LEFT']}/{os.getpid()}", "w") as file:
        file.write("\\n".join([",".join(sorted(sys.modules)), " ".join(sys.orig_argv), *opened]))


atexit.register(leave)
"""


@pytest.fixture(scope="module")
def left_by_ranks(tmp_path_factory):
    """Run a small job twice on 2 ranks; the second time every module is compiled."""
    home = tmp_path_factory.mktemp("startup")
    rng = np.random.default_rng(0)
    with h5py.File(home / "data.h5", "w") as file:
        file["X"] = rng.standard_normal((300, 3))
        file["y"] = (rng.random(300) < 0.5).astype(float)
    (home / "sitecustomize.py").write_text(SITE)
    spec = home / "spec.yaml"
    spec.write_text("name: small\ndata: {path: data.h5}\nmodel: {type: logistic_regression}\n")
    for attempt in ("first", "second"):
        left = home / attempt
        left.mkdir()
        path = f"{home}:{harness.clean_environment()['PYTHONPATH']}"
        env = {"PYTHONPATH": path, "LEFT": str(left), "PYTHONDONTWRITEBYTECODE": None}
        argv = [sys.executable, "-m", "hpcml", "run", "-n", "2", str(spec), f"output.dir={left}/run"]
        harness.run_job(argv, env=env, check=0)
    records = [path.read_text().splitlines() for path in left.iterdir() if path.is_file()]
    return [record for record in records if "mpi4py.MPI" in record[0].split(",")]


def test_a_rank_opens_few_files(left_by_ranks):
    other, first = sorted(len(record) - 2 for record in left_by_ranks)
    print(f"files opened: {first} by the first rank, {other} by the other")
    assert other <= MOST_OPENS
    assert first <= MOST_OPENS_OF_THE_FIRST


def test_a_rank_never_imports_scikit_learn(left_by_ranks):
    for modules, *_ in left_by_ranks:
        loaded = {name.split(".")[0] for name in modules.split(",")}
        assert not loaded & {"sklearn", "pandas", "joblib", "matplotlib"}
        assert "numpy" in loaded
