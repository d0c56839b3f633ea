"""The life of a run: begun, killed, resumed, finished, run again, and whose directory it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import h5py
import harness
import pytest
import small

# Ill-conditioned enough for some sixty iterations, a checkpoint at each.
SLOW = {"solver__name": "gd", "solver__tol": 1e-10, "model__alpha": 1e-4, "checkpoint__every": 1}


@pytest.fixture
def spec(rows, tmp_path):
    return small.write_spec(tmp_path / "spec.yaml", rows)


@pytest.fixture(scope="module")
def finished(rows, tmp_path_factory):
    """A finished run (spec, directory); tests copy it."""
    folder = tmp_path_factory.mktemp("finished")
    data = folder / "data.h5"
    data.write_bytes(rows.read_bytes())
    spec = small.write_spec(folder / "spec.yaml", data)
    done = small.hpcml("run", spec, f"output.dir={folder / 'run'}", check=0)
    return folder, done


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that a test may spoil: a folder of spec.yaml, data.h5 and run/."""
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    spec = json.loads((folder / "spec.yaml").read_text())
    spec["data"]["path"] = str(folder / "data.h5")
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return folder


def _run(folder: Path, *words: str, **options) -> harness.Completed:
    return small.hpcml("run", folder / "spec.yaml", f"output.dir={folder / 'run'}", *words, **options)


def _kill_when(folder: Path, names: list[str], argv: list[str], env: dict[str, str]) -> None:
    """Start a job, and kill all of its processes at once when `folder` holds just the files `names`."""
    tag = uuid.uuid4().hex
    environment = {**harness.clean_environment(env), harness.TAG: tag}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    job = subprocess.Popen(argv, env=environment, start_new_session=True, **quiet)
    deadline = time.monotonic() + 60
    while (
        not (folder.is_dir() and sorted(os.listdir(folder)) == names)
        and job.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert job.poll() is None, "the job ended before it could be killed"
    while alive := harness.tagged_processes(tag):
        assert time.monotonic() < deadline + 10
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        job.poll()


@pytest.fixture(scope="module")
def killed(rows, tmp_path_factory):
    """A folder of run/, killed on 3 ranks after its 7th checkpoint, and whole/, the same undisturbed."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "data.h5").write_bytes(rows.read_bytes())
    spec = small.write_spec(folder / "spec.yaml", folder / "data.h5", **SLOW)
    small.hpcml("run", spec, f"output.dir={folder / 'whole'}", check=0)
    # The first rank stops for ever when it has written the 7th checkpoint, so the kill cannot come too late.
    env = small.fault(
        folder, {"where": "hpcml.run.saver:write_checkpoint", "rank": 0, "call": 7, "action": "stop"}
    )
    run = [sys.executable, "-m", "hpcml", "run", str(spec), f"output.dir={folder / 'run'}"]
    argv = [harness.find_mpiexec(), "-n", "3", *run]
    names = [f"step-{i:08d}.ckpt" for i in (6, 7)]
    _kill_when(folder / "run" / "checkpoints", names, argv, env)
    return folder


def test_a_killed_run_left_no_result(killed):
    files = set(small.everything(killed / "run"))
    checkpoints = {f"checkpoints/step-{i:08d}.ckpt" for i in (6, 7)}
    assert files == {
        *checkpoints,
        *("spec.yaml", "resolved.yaml", "provenance.json", "metrics.jsonl", "state.json", "log.txt"),
    }
    assert json.loads((killed / "run" / "state.json").read_text())["state"] == "running"
    assert [line["iter"] for line in small.iterations(killed / "run")] == list(range(7))


@pytest.mark.parametrize(
    ("n", "damage"), [(1, None), (2, "torn checkpoint"), (5, "torn line"), (2, "no checkpoint")]
)
def test_a_killed_run_goes_on_to_the_same_bits(killed, tmp_path, n, damage):
    run, whole = tmp_path / "run", killed / "whole"
    shutil.copytree(killed / "run", run)
    begins = 7
    if damage == "torn checkpoint":
        newest, begins = run / "checkpoints" / "step-00000007.ckpt", 6
        newest.write_bytes(newest.read_bytes()[:-100])
    elif damage == "torn line":
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"iter": 7, "objective": 0.1}\n{"iter": 8, "obj')
    elif damage == "no checkpoint":
        shutil.rmtree(run / "checkpoints")
        begins = 0
    done = small.hpcml("resume", run, "-n", n, "--json", check=0)
    result, expected = small.result_of(run), small.result_of(whole)
    assert json.loads(done.stdout.splitlines()[-1]) == result
    assert result["n_ranks"] == n and result["attempt"] == 2
    assert f"goes on from iteration {begins}" in done.stderr or not begins
    for key in ("model_digest", "objective", "certificate", "n_iter", "metrics", "data_digest", "converged"):
        assert result[key] == expected[key], key
    assert small.iterations(run) == small.iterations(whole)
    assert expected["converged"] and expected["n_iter"] > 20
    assert json.loads((run / "state.json").read_text())["state"] == "done"


def test_running_the_same_spec_again_resumes(killed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(killed / "run", run)
    words = ("run", killed / "spec.yaml", f"output.dir={run}")
    other = small.hpcml(*words, "solver.tol=1e-6")
    assert other.returncode == 2 and "holds another run (small, running)" in other.stderr
    more = small.hpcml("resume", run, "solver.max_iter=7")
    assert more.returncode == 2 and "changes the answer" in more.stderr
    done = small.hpcml(*words, "data.cache=none", "checkpoint.every=none", check=0)
    assert "goes on from iteration 7" in done.stderr
    assert small.result_of(run)["model_digest"] == small.result_of(killed / "whole")["model_digest"]


@pytest.mark.parametrize("how", ["never", "required"])
def test_a_run_may_say_whether_it_continues(killed, tmp_path, how):
    run = tmp_path / "run"
    shutil.copytree(killed / "run", run)
    if how == "required":
        shutil.rmtree(run / "checkpoints")
    before = small.everything(run)
    done = small.hpcml("run", killed / "spec.yaml", f"output.dir={run}", f"checkpoint.resume={how}")
    if how == "required":
        assert done.returncode == 2 and "no checkpoint of this run" in done.stderr
        assert small.everything(run) == before
    else:
        assert done.returncode == 0 and "goes on" not in done.stderr
        assert small.iterations(run) == small.iterations(killed / "whole")


@pytest.mark.parametrize("where", ["training rows", "test rows", "weights"])
def test_changed_data_under_an_unfinished_run_are_refused(rows, killed, tmp_path, where):
    run, data = tmp_path / "run", tmp_path / "data.h5"
    shutil.copytree(killed / "run", run)
    row = _a_row(of_test=where == "test rows")
    with small.changed(rows, data) as file:
        file["X"][row, 2] += 1.0
    before = (run / "checkpoints" / "step-00000007.ckpt").read_bytes()
    spec = small.write_spec(tmp_path / "spec.yaml", data, **SLOW)
    done = small.hpcml("run", spec, f"output.dir={run}")
    assert done.returncode == 2, done.describe()
    assert "rows have changed since" in done.stderr
    assert (run / "checkpoints" / "step-00000007.ckpt").read_bytes() == before
    assert not (run / "result.json").exists()


def _a_row(of_test: bool) -> int:
    import numpy as np

    from hpcml.data import RowSelection

    part = RowSelection(0, test=0.2, part="test" if of_test else "train")
    return int(np.flatnonzero(part.keeps(np.arange(small.N_ROWS)))[3])


@pytest.mark.parametrize("of_test", [False, True])
def test_changed_data_under_a_finished_run_are_refused(copy, of_test):
    with h5py.File(copy / "data.h5", "r+") as file:
        file["X"][_a_row(of_test), 2] += 1.0
    before = small.everything(copy / "run")
    done = _run(copy)
    assert done.returncode == 2, done.describe()
    assert "rows have changed since" in done.stderr
    assert small.everything(copy / "run") == before


def test_a_finished_run_prints_its_result(finished, copy):
    folder, first = finished
    before = small.everything(copy / "run")
    os.utime(copy / "data.h5")  # touched, the rows are the same
    for done in (_run(copy), small.hpcml("resume", copy / "run"), _run(copy, "-n", "2")):
        assert done.returncode == 0
        assert done.stdout == first.stdout
    said = small.hpcml("resume", copy / "run", "--json", check=0)
    assert json.loads(said.stdout) == small.result_of(folder / "run")
    on_ranks = small.hpcml("resume", copy / "run", "--json", "-n", "2", check=0)
    assert on_ranks.stdout == said.stdout
    assert small.everything(copy / "run") == before


def test_another_spec_in_the_same_directory_is_refused(copy):
    before = small.everything(copy / "run")
    done = _run(copy, "model.alpha=0.02")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("hpcml: error: output.dir: ")
    assert "holds another run (small, done)" in done.stderr
    assert small.everything(copy / "run") == before


def test_overwrite_always_replaces_another_run(copy):
    old = small.result_of(copy / "run")
    (copy / "run" / "notes.txt").write_text("mine")
    _run(copy, "model.alpha=0.02", "output.overwrite=always", check=0)
    new = small.result_of(copy / "run")
    assert new["model_digest"] != old["model_digest"] and new["attempt"] == 1
    assert (copy / "run" / "notes.txt").read_text() == "mine"


def test_overwrite_same_hash_repeats_this_run_alone(copy):
    refused = _run(copy, "model.alpha=0.02", "output.overwrite=same_hash")
    assert refused.returncode == 2
    old = small.result_of(copy / "run")
    _run(copy, "output.overwrite=same_hash", check=0)
    new = small.result_of(copy / "run")
    assert new["model_digest"] == old["model_digest"] and new["seconds"] != old["seconds"]


@pytest.mark.parametrize("missing", ["result.json", "model.h5"])
def test_a_finished_run_that_lost_a_file_is_run_again(copy, missing):
    old = small.result_of(copy / "run")
    (copy / "run" / missing).unlink()
    _run(copy, check=0)
    assert (copy / "run" / missing).exists()
    assert small.result_of(copy / "run")["model_digest"] == old["model_digest"]


def test_files_that_are_no_runs_are_left_alone(spec, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    done = small.hpcml("run", spec, f"output.dir={folder}")
    assert done.returncode == 2 and "files that are no run's" in done.stderr
    assert small.everything(folder) == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("name", ["a b: c #d", "${name}", "~x", "123", "[1]", "-x=y"])
def test_resume_takes_any_directory_name(copy, finished, name):
    (copy / "run").rename(copy / name)
    done = (
        small.hpcml("resume", "--", name, cwd=copy)
        if name[0] == "-"
        else small.hpcml("resume", name, cwd=copy)
    )
    assert done.returncode == 0, done.describe()
    assert "holds this run, finished" in done.stderr
    assert done.stdout == finished[1].stdout
    assert sorted(os.listdir(copy)) == sorted([name, "data.h5", "spec.yaml"])


def test_resume_wants_a_run_directory(tmp_path):
    done = small.hpcml("resume", tmp_path / "nothing")
    assert done.returncode == 2 and "is not a run directory" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_a_time_limit_promises_no_bits(spec, tmp_path):
    done = small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", "solver.max_time=0.001", check=0)
    result = small.result_of(tmp_path / "run")
    assert result["model_digest"] is None and not result["converged"] and not result["deterministic"]
    assert "the time limit was reached" in done.stderr
    assert "no digest is promised" in done.stdout


def test_require_convergence(spec, tmp_path):
    words = ("run", spec, f"output.dir={tmp_path / 'run'}", "solver.max_iter=2")
    done = small.hpcml(*words, "--require-convergence", "--json", "-n", "2")
    assert done.returncode == 4
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["reason"] == "max_iter was reached" and result["certificate"] > result["tol"]
    assert done.stderr.count("not converged") == 1
    again = small.hpcml(*words)
    assert again.returncode == 0 and "NOT CONVERGED" in again.stdout


@pytest.mark.parametrize(
    ("words", "launcher", "n"),
    [
        ((), 2, 2),  # the launcher's, over the three of the spec
        (("-n", "3"), 2, 2),
        (("-n", "2"), None, 2),
        ((), None, 3),
        (("resources.ntasks=1",), None, 1),
        (("resources.nodes=2",), None, 2),  # clears ntasks
        (("resources.nodes=1", "resources.ntasks_per_node=2"), None, 2),
    ],
)
def test_who_decides_the_number_of_ranks(rows, tmp_path, mpirun, words, launcher, n):
    spec = small.write_spec(tmp_path / "s.yaml", rows, resources__ntasks=3)
    argv = ["-m", "hpcml", "run", str(spec), *words, f"output.dir={tmp_path / 'run'}"]
    if launcher:
        mpirun(launcher, argv, check=0)
    else:
        harness.run_job([sys.executable, *argv], check=0)
    assert small.result_of(tmp_path / "run")["n_ranks"] == n


def test_the_launcher_and_minus_n_do_the_same(rows, tmp_path, mpirun):
    spec = small.write_spec(tmp_path / "s.yaml", rows)
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    a = mpirun(3, ["-m", "hpcml"], "run", spec, "--json", "model.alpha=0.03", f"output.dir={inside}", check=0)
    b = small.hpcml("run", "-n", "3", spec, "--json", "model.alpha=0.03", f"output.dir={outside}", check=0)
    for done, run in ((a, inside), (b, outside)):
        assert done.stdout.count("\n") == 1
        assert json.loads(done.stdout) == small.result_of(run)
        assert done.survivors == ()
    keys = ("model_digest", "n_ranks", "n_iter", "metrics")
    assert [small.result_of(inside)[k] for k in keys] == [small.result_of(outside)[k] for k in keys]
    assert set(small.everything(inside)) == set(small.everything(outside))
    assert "alpha: 0.03" in (inside / "resolved.yaml").read_text()
    assert (inside / "spec.yaml").read_bytes() == spec.read_bytes()


def test_nothing_is_pickled():
    found = [path for path in (harness.ROOT / "hpcml").rglob("*.py") if "import pickle" in path.read_text()]
    assert found == []
