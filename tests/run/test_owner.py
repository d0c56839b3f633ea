"""Whose run directory it is while a job works there, and what a job that is ended leaves in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import harness
import small

from hpcml.io.lock import HELD, holder_of, release, try_lock


def test_a_directory_in_use_is_refused(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    handle = try_lock(tmp_path / "run.lock")
    try:
        refused = small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", check=2)
    finally:
        release(handle, tmp_path / "run.lock")
    assert f"is in use by process {os.getpid()}" in refused.stderr
    assert not (tmp_path / "run").exists()
    small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", check=0)
    assert not (tmp_path / "run.lock").exists()


def test_a_lock_ends_with_its_holder(tmp_path):
    path = tmp_path / "x.lock"
    program = "import os, sys; from pathlib import Path; from hpcml.io.lock import try_lock; "
    program += "assert try_lock(Path(sys.argv[1])) >= 0; print('held', flush=True); sys.stdin.read()"
    env = harness.clean_environment()
    other = subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    assert other.stdout.readline() == b"held\n"
    assert try_lock(path) == HELD
    assert f"process {other.pid} on" in holder_of(path)
    other.kill()
    other.communicate()
    handle = try_lock(path)
    assert handle >= 0
    release(handle, path)
    assert not path.exists()


def test_overwrite_never_replaces_files_of_no_run(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.h5").write_text("precious")
    small.hpcml("run", spec, f"output.dir={mine}", "output.overwrite=always", check=2)
    assert [(p.name, p.read_text()) for p in mine.iterdir()] == [("model.h5", "precious")]


def test_a_rank_that_freezes_before_the_run_begins_is_named(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    env = small.fault(tmp_path, {"where": "hpcml.run.provenance:host_name", "rank": 1, "action": "stop"})
    times = ["watchdog.name_after=1", "watchdog.end_after=2"]
    done = small.hpcml("run", "-n", "2", spec, f"output.dir={tmp_path / 'run'}", *times, env=env)
    assert done.returncode == 1
    assert "not there: rank 1 (silent)" in done.stderr
    assert done.seconds < 12


def test_a_job_that_is_terminated_leaves_word(rows, tmp_path):
    run = tmp_path / "run"
    spec = small.write_spec(tmp_path / "spec.yaml", rows, solver__name="gd", solver__tol=1e-30)
    argv = [
        sys.executable,
        "-m",
        "hpcml",
        "run",
        "-n",
        "2",
        spec,
        f"output.dir={run}",
        "solver.max_iter=1000000",
    ]
    job = subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=harness.clean_environment()
    )
    said = b""
    while b"solving with gd" not in said:
        said += job.stderr.readline()
    job.send_signal(signal.SIGTERM)
    said += job.communicate(timeout=20)[1]
    assert job.returncode == 1
    assert f"hpcml resume {run} goes on".encode() in said
    assert json.loads((run / "state.json").read_text())["state"] == "failed"
    assert json.loads((run / "error.json").read_text())["kind"] == "Killed"


def test_missing_values_of_hdf5_rows_are_not_promised(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    refused = small.hpcml("run", spec, "data.missing=mean", f"output.dir={tmp_path / 'run'}", check=2)
    assert "is for tables (data.source)" in refused.stderr
