"""Whole jobs whose rows go by node-local scratch: the same bits, damage is noticed, nothing is left."""

from __future__ import annotations

import json
import os

import indexed
import pytest
import small

STAGES = ["shard", "copy"]


@pytest.fixture
def home(tmp_path):
    """A data file with an index, and an empty root for scratch."""
    path = indexed.put(tmp_path / "data.h5")
    indexed.index(path)
    (tmp_path / "root").mkdir()
    return tmp_path


def job(home, stage, name="job", **keys):
    place = {"path": str(home / "root"), "stage": stage}
    about = {"data__cache": "scratch", "data__partition": {}, "data__weight": "w", "scratch": place, **keys}
    return small.write_spec(home / f"{name}.yaml", home / "data.h5", **about)


@pytest.mark.parametrize("n", [1, 2])
def test_the_way_over_scratch_changes_no_bit(home, n):
    specs = {stage: job(home, stage, stage) for stage in STAGES}
    specs["none"] = job(home, "shard", "none", data__cache="none")
    lines = [["run", spec, f"output.dir={home / name}"] for name, spec in specs.items()]
    for line, ranks in zip(lines, small.commands(n, lines, home / f"on{n}"), strict=True):
        assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
    results = {name: small.result_of(home / name) for name in specs}
    assert len({result["model_digest"] for result in results.values()}) == 1
    assert [results[name]["cache"] for name in specs] == ["scratch", "scratch", "none"]
    for result in results.values():
        assert result["reading"]["verified"]["rows"] == indexed.N
        assert result["reading"]["opens_per_rank"] == 1
    assert os.listdir(home / "root") == []


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_damage_is_said_of_the_file_that_the_user_named(home, stage, n):
    indexed.flip(home / "data.h5", "X", 8200)
    ended = small.hpcml("run", job(home, stage), "-n", str(n), f"output.dir={home / 'run'}", check=3)
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("hpcml: error: ")]
    assert line.startswith(f"hpcml: error: {home / 'data.h5'}: rows 8192 to 9000 of 'X' (from byte ")
    assert "differ from the index data.h5.index" in line
    assert ("read from its copy" in line) is (stage == "copy")
    assert json.loads((home / "run" / "error.json").read_text())["exit_code"] == 3
    assert os.listdir(home / "root") == []
