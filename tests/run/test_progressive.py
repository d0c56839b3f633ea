"""A job that starts on samples: the same bits anywhere, and after a kill on a sample or behind it."""

from __future__ import annotations

import harness
import pytest
import small

ROWS = 5000
PROGRESSIVE = {
    "solver": {"name": "newton", "tol": 1e-9, "progressive": True},
    "data__split": {"method": "hash", "test": 0.1},
    "checkpoint__every": 1,
}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """79 shards of 64 rows."""
    return small.make_rows(tmp_path_factory.mktemp("many") / "rows.h5", ROWS)


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    """A run on one rank that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    spec = small.write_spec(folder / "spec.yaml", many, **PROGRESSIVE)
    done = small.hpcml("run", spec, f"output.dir={folder / 'run'}", check=0)
    assert "progressive start: iterations" in done.stderr
    return spec, folder / "run"


def alike(run, whole):
    results = [small.result_of(folder) for folder in (run, whole)]
    for name in ("model_digest", "objective", "certificate", "n_iter", "metrics"):
        assert results[0][name] == results[1][name], name
    assert small.iterations(run) == small.iterations(whole)
    return results


def test_the_samples_are_told(whole, many, tmp_path):
    (sample,) = small.result_of(whole[1])["progressive"]
    assert 180 <= sample["n_rows"] <= 256 and sample["n_iter"] > 1
    cold = small.write_spec(tmp_path / "cold.yaml", many, **PROGRESSIVE, solver__progressive=False)
    small.hpcml("run", cold, f"output.dir={tmp_path / 'cold'}", check=0)
    results = [small.result_of(folder) for folder in (whole[1], tmp_path / "cold")]
    assert results[1]["progressive"] == []
    assert results[0]["n_iter"] < results[1]["n_iter"]
    assert results[0]["objective"] == pytest.approx(results[1]["objective"], rel=1e-8)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_the_same_bits_on_three_ranks(whole, tmp_path, cache):
    spec, expected = whole
    line = ["run", spec, f"output.dir={tmp_path / 'run'}", f"data.cache={cache}"]
    for rank in small.commands(3, [line], tmp_path / "ranks")[0]:
        assert rank.code == 0, rank.stderr
    results = alike(tmp_path / "run", expected)
    assert results[0]["progressive"] == results[1]["progressive"]


@pytest.mark.parametrize(("call", "goes_on"), [(3, False), (9, True)])
def test_a_kill(whole, tmp_path, call, goes_on):
    """The third evaluation is on the sample, the ninth behind the first checkpoint."""
    spec, expected = whole
    where = "hpcml.algorithms.objective:Objective.evaluate"
    env = small.fault(tmp_path, {"where": where, "rank": 1, "call": call, "action": "kill"})
    done = harness.mpirun(2, "-m", "hpcml", "run", spec, f"output.dir={tmp_path / 'run'}", env=env)
    assert done.returncode != 0
    resumed = small.hpcml("resume", tmp_path / "run", check=0)
    assert ("goes on from iteration" in resumed.stderr) == goes_on
    assert ("progressive start" in resumed.stderr) != goes_on
    alike(tmp_path / "run", expected)


def test_admm_is_refused(many, tmp_path):
    keys = {"solver": {"name": "admm", "progressive": True}}
    done = small.hpcml("validate", small.write_spec(tmp_path / "spec.yaml", many, **keys))
    assert done.returncode == 2
    assert "solver.progressive: solver.name: admm cannot start on samples" in done.stderr
