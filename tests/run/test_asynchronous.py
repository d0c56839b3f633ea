"""Asynchronous ADMM in whole jobs: certified, said not to be deterministic, ended by a dead rank, resumed."""

from __future__ import annotations

import json

import harness
import pytest
import small

MODEL = {"type": "logistic_regression", "alpha": 0.02}
SOLVER = {"name": "async_admm", "subproblems": 6, "tol": 1e-10}
KEYS = {"model": MODEL, "data__split": {"method": "none"}}


@pytest.mark.parametrize("n", [1, 3])
def test_the_result_says_what_is_not_promised(rows, tmp_path, n):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **KEYS, solver=SOLVER)
    newton = small.write_spec(tmp_path / "newton.yaml", rows, **KEYS, solver={"name": "newton", "tol": 1e-12})
    lines = [
        ["run", spec, f"output.dir={tmp_path / 'run'}"],
        ["run", newton, f"output.dir={tmp_path / 'best'}"],
    ]
    ended = small.commands(n, lines, tmp_path / "on", timeout=120)
    assert {rank.code for ranks in ended for rank in ranks} == {0}, ended
    result, best = (small.result_of(tmp_path / name) for name in ("run", "best"))
    assert result["converged"], result["reason"]
    assert result["objective"] == pytest.approx(best["objective"], rel=1e-9)
    assert (result["deterministic"], result["model_digest"]) == (False, None)
    assert (best["deterministic"], best["asynchronous"]) == (True, None)
    found = result["asynchronous"]
    assert found["subproblems"] == 6
    assert sum(found["staleness"].values()) == found["updates"]["all"]
    assert 1 <= found["updates"]["least"] <= found["updates"]["all"] / 6 <= found["updates"]["most"]
    shown = ended[0][0].stdout + ended[0][0].stderr
    assert "asynchronous: no digest is promised" in shown
    assert (
        f"of each of 6 subproblems; staleness 0: {found['staleness']['0'] / found['updates']['all']:.0%}"
        in shown
    )


@pytest.mark.parametrize("action", ["kill", "raise"])
def test_a_rank_that_ends_at_work_ends_the_job(rows, tmp_path, action):
    keys = KEYS | {"checkpoint__every": 1, "solver": SOLVER | {"min_batch": 1}}
    spec, run = small.write_spec(tmp_path / "spec.yaml", rows, **keys), tmp_path / "run"
    # The first two calls of rank 1 are in the first step, by the end of which there is a checkpoint.
    fault = {"where": "hpcml.algorithms.workshop:local_model", "rank": 1, "call": 2, "action": action}
    words = ["-m", "hpcml", "run", str(spec), f"output.dir={run}"]
    done = harness.mpirun(3, words, env=small.fault(run, fault), timeout=60)
    assert done.returncode != 0, done.describe()
    assert done.survivors == ()
    assert "result.json" not in small.everything(run)
    resumed = small.hpcml("resume", run, check=0)
    assert json.loads((run / "result.json").read_text())["converged"], resumed.stderr


def test_a_job_goes_on_from_a_checkpoint_on_other_ranks(rows, tmp_path):
    keys = KEYS | {"checkpoint__every": 1, "solver": SOLVER}
    spec, run = small.write_spec(tmp_path / "spec.yaml", rows, **keys), tmp_path / "run"
    fault = {"where": "hpcml.run.run:Run._evaluate", "rank": 1}
    words = ["-m", "hpcml", "run", str(spec), f"output.dir={run}"]
    done = harness.mpirun(3, words, env=small.fault(run, fault | {"action": "raise"}), timeout=60)
    assert done.returncode == 1, done.describe()
    resumed = small.hpcml("resume", run, check=0)
    assert "goes on from iteration" in resumed.stderr
    result = small.result_of(run)
    assert result["converged"] and result["asynchronous"]["updates"]["least"] >= 1


REFUSED = {
    "max_staleness": ({"name": "admm", "max_staleness": 1}, "is of solver.name: async_admm, not admm"),
    "relaxation": ({"name": "async_admm", "relaxation": 1.2}, "is of solver.name: admm, not async_admm"),
    "min_batch": ({"name": "async_admm", "min_batch": 0}, "write a number > 0"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_refused(rows, tmp_path, key):
    solver, sentence = REFUSED[key]
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **KEYS, solver=solver)
    done = small.hpcml("validate", spec, check=2)
    assert f"solver.{key}: " in done.stderr
    assert sentence in done.stderr
