"""A rank that raises or dies ends the job within seconds, says so once, and leaves its cause on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness
import pytest
import small

SECONDS = 30.0  # an end, not a wait: a watchdog would speak after 60
SPEC = {"checkpoint__every": 1, "solver__max_iter": 200}


def _job(spec: Path, run: Path, fault: dict[str, object], by: str, n: int = 3) -> harness.Completed:
    words = ["-m", "hpcml", "run", str(spec), f"output.dir={run}"]
    env = small.fault(run, {"action": "raise", **fault})
    if by == "mpiexec":
        return harness.mpirun(n, words, env=env)
    return harness.run_job([sys.executable, *words, "-n", str(n)], env=env)


@pytest.mark.parametrize(
    ("phase", "where", "rank", "call", "by"),
    [
        ("start", "hpcml.run.claim:Claim._begin", 0, 1, "minus n"),
        ("open", "hpcml.run.parts:open_part", 1, 2, "minus n"),
        ("open", "hpcml.run.inputs:open_table", 2, 1, "mpiexec"),
        ("read", "hpcml.algorithms.survey:check_block", 1, 1, "minus n"),
        ("solve", "hpcml.algorithms.objective:Objective.evaluate", 2, 3, "minus n"),
        ("solve", "hpcml.algorithms.lbfgs:search", 1, 2, "mpiexec"),
        ("solve", "hpcml.run.saver:write_checkpoint", 0, 2, "minus n"),
        ("evaluate", "hpcml.run.run:Run._evaluate", 1, 1, "minus n"),
        ("save", "hpcml.run.results:write_model", 0, 1, "minus n"),
    ],
)
def test_a_bug_on_one_rank(rows, tmp_path, phase, where, rank, call, by):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **SPEC)
    run = tmp_path / "run"
    done = _job(spec, run, {"where": where, "rank": rank, "call": call}, by)
    assert done.returncode == 1, done.describe()
    assert done.seconds < SECONDS and done.survivors == ()
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.describe()
    assert f"rank {rank}: RuntimeError: a bug was planted here" in done.stderr
    files = small.everything(run) if run.exists() else {}
    assert not {"result.json", "model.h5", "manifest.json"} & set(files)
    if phase == "start":
        return  # before the directory is this run's, nothing is written there
    error = json.loads(files["error.json"])
    assert (error["rank"], error["exit_code"], error["phase"]) == (rank, 1, phase)
    assert (error["kind"], error["message"]) == ("RuntimeError", "a bug was planted here")
    assert "planted" in error["traceback"]
    assert json.loads(files["state.json"])["state"] == "failed"


@pytest.mark.parametrize("by", ["mpiexec", "minus n"])
def test_a_rank_that_is_killed_in_the_solve(rows, tmp_path, by):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **SPEC)
    where = {"where": "hpcml.algorithms.objective:Objective.evaluate", "rank": 1, "call": 4, "action": "kill"}
    done = _job(spec, tmp_path / "run", where, by)
    assert done.returncode != 0 and (by == "mpiexec" or done.returncode == 1), done.describe()
    assert done.seconds < SECONDS and done.survivors == ()
    assert not {"result.json", "model.h5", "manifest.json"} & set(small.everything(tmp_path / "run"))
    # What it had saved is good: the run goes on from there, to the answer of an undisturbed one.
    resumed = small.hpcml("resume", tmp_path / "run", check=0)
    assert "goes on from iteration" in resumed.stderr
    small.hpcml("run", spec, f"output.dir={tmp_path / 'whole'}", check=0)
    assert small.iterations(tmp_path / "run") == small.iterations(tmp_path / "whole")
    digests = [small.result_of(tmp_path / name)["model_digest"] for name in ("run", "whole")]
    assert digests[0] == digests[1]


def test_a_bug_without_ranks_is_a_traceback(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **SPEC)
    code = (
        "import sys, hpcml.run.launch as launch; launch.one_blas_thread()\n"
        "import hpcml.cli.run as verb; verb.one_blas_thread = lambda spec: None\n"
        "import hpcml.run.run as run; run.Run._evaluate = None\n"
        "from hpcml.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = harness.run_job([sys.executable, "-c", code, "run", str(spec), f"output.dir={tmp_path / 'run'}"])
    assert done.returncode == 1 and done.stderr.count("Traceback (most recent call last)") == 1
    error = json.loads((tmp_path / "run" / "error.json").read_text())
    assert (error["rank"], error["phase"], error["kind"]) == (0, "evaluate", "TypeError")
    assert json.loads((tmp_path / "run" / "state.json").read_text())["state"] == "failed"


def test_an_error_file_of_an_earlier_attempt_is_not_taken_for_this_ones(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **SPEC)
    run = tmp_path / "run"
    _job(spec, run, {"where": "hpcml.run.run:Run._evaluate", "rank": 1}, "minus n")
    assert (run / "error.json").exists()
    done = small.hpcml("resume", run, check=0)
    assert "goes on from iteration" in done.stderr
    assert not (run / "error.json").exists()
    assert small.result_of(run)["attempt"] == 2


def test_a_rank_imports_and_starts_no_more_than_it_needs(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    env = small.fault(tmp_path, {"modules": str(tmp_path)}, OMP_NUM_THREADS="8", OPENBLAS_NUM_THREADS="8")
    small.hpcml("run", spec, "-n", "2", f"output.dir={tmp_path / 'run'}", env=env, check=0)
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        rooms = {name.partition(".")[0] for name in found["modules"]}
        assert "mpi4py" in rooms and not {"sklearn", "pandas", "pyarrow", "matplotlib", "joblib"} & rooms
        assert "hpcml.estimators" not in found["modules"]
        assert not [name for name in found["modules"] if name.startswith("scipy.optimize")]
        assert found["before_numpy"] == ["1"]  # OMP_NUM_THREADS when NumPy was imported
        assert found["threads"] and set(found["threads"]) == {1}
