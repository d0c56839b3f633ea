"""A run believes no file that changed under it, and gives the same bits however its rows were read."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

import h5py
import numpy as np
import pytest
import small
import stores

SIZES = [1, 2, 3, 5]
SECONDS = 30.0  # an end, not a wait: a watchdog would speak after 60
FORMS = {"dense": "X", "gzip": "chunked", "CSR": "S"}
WAYS: dict[str, dict[str, Any]] = {
    "memory": {"data__cache": "memory"},
    "streamed": {"data__cache": "none"},
    "one thread": {"data__cache": "none", "data__io": {"prefetch": 0}},
    "nothing kept": {"data__cache": "none", "data__io": {"prefetch": 2, "chunk_cache": 1}},
}
CASES = {
    (solver, form, way): {"solver__name": solver, "data__x": x, **keys}
    for solver in ("newton", "lbfgs")
    for form, x in FORMS.items()
    for way, keys in WAYS.items()
}
WITH_FIVE = ("memory", "streamed")  # five ranks on two cores take their time


@pytest.fixture(scope="module")
def results(rows, tmp_path_factory):
    """Every case on every number of ranks: {(case, n): result.json}."""
    folder = tmp_path_factory.mktemp("truth")
    found = {}
    for n in SIZES:
        lines = {}
        for number, (case, keys) in enumerate(CASES.items()):
            if n < 5 or case[2] in WITH_FIVE:
                spec = small.write_spec(folder / f"{number}.yaml", rows, **keys)
                lines[case] = ["run", spec, f"output.dir={folder / f'{n}-{number}'}"]
        ended = small.commands(n, list(lines.values()), folder / f"on{n}", timeout=250)
        for (case, line), ranks in zip(lines.items(), ended, strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (case, ranks)
            found[case, n] = small.result_of(folder / line[2].rpartition("/")[2])
    return found


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("form", FORMS)
def test_the_way_of_reading_changes_no_bit(results, solver, form):
    same = [result for (case, _), result in results.items() if case[:2] == (solver, form)]
    assert len(same) == 3 * len(WAYS) + len(WITH_FIVE)
    assert len({(result["model_digest"], result["data_digest"]) for result in same}) == 1
    assert {result["cache"] for result in same} == {"memory", "none"}
    digests = {results[(*case, "memory"), 1]["model_digest"] for case in ((solver, f) for f in FORMS)}
    assert len(digests) == 3  # a digest that never changes would pass


def _stored_bytes(rows, x, n_readers):
    """Return the stored bytes of X and y; each reader of CSR rows needs one border more than rows."""
    with h5py.File(rows, locking=False) as file:
        if x != "S":
            return sum(file[name].id.get_storage_size() for name in (x, "y"))
        names = ("S/data", "S/indices", "S/indptr", "y")
        n_bytes = sum(file[name].id.get_storage_size() for name in names)
        return n_bytes + (n_readers - 1) * file["S/indptr"].dtype.itemsize


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_is_read_once_a_pass_from_a_file_opened_once(results, rows, form):
    for (case, n), result in results.items():
        if case[1] != form or case[2] == "nothing kept":
            continue
        reading = result["reading"]
        readers = min(n, result["n_shards"])
        assert reading["bytes"] == reading["passes"] * _stored_bytes(rows, FORMS[form], readers), (case, n)
        assert (reading["opens_per_rank"], reading["retries"]) == (1, 0), (case, n)
        if case[2] == "memory":
            assert reading["passes"] == 2  # the training part and the test part
        else:
            assert reading["passes"] > result["n_iter"]
        assert 0.0 <= reading["waiting"] <= reading["seconds"] + 0.01
        assert 0.0 <= reading["hidden"] <= 1.0


# A file that changes while it is open

TRUNCATE = [sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], int(sys.argv[2]))"]
CHANGES: dict[str, tuple[list[str], str]] = {
    "truncated": ([*TRUNCATE, "DATA", "9000"], "data.h5: is truncated: it ends at byte 9000 and "),
    "a little shorter": ([*TRUNCATE, "DATA", "-1"], "data.h5: changed while it was read: it had "),
    "longer": ([*TRUNCATE, "DATA", "999999"], "data.h5: changed while it was read: it had "),
    "replaced": (["mv", "OTHER", "DATA"], "data.h5: was replaced while it was read"),
    "touched": (["touch", "-d", "2001-01-01", "DATA"], "data.h5: changed while it was read: "),
    "gone": (["rm", "DATA"], "data.h5: vanished while it was read (No such file or directory)"),
}


def _ended(tmp_path, rows, fault, n, code, **keys):
    """Run a spec whose rows are streamed while something happens on one rank; return what it left."""
    data = tmp_path / "data.h5"
    if not data.exists():
        data.write_bytes(rows.read_bytes())
    spec = small.write_spec(tmp_path / "spec.yaml", data, **{"data__cache": "none", **keys})
    env = small.fault(tmp_path, fault)
    done = small.hpcml("run", spec, "-n", str(n), f"output.dir={tmp_path / 'run'}", env=env)
    assert done.returncode == code, done.describe()
    assert done.survivors == ()
    if code == 0:
        return small.result_of(tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("hpcml: error: ")]
    assert len(errors) == 1, done.describe()
    assert "Traceback" not in done.stderr
    assert done.seconds < SECONDS
    files = small.everything(tmp_path / "run")
    assert not {"result.json", "model.h5", "manifest.json"} & set(files)
    error = json.loads(files["error.json"])
    assert (error["exit_code"], errors[0]) == (code, f"hpcml: error: {error['message']}")
    return error


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_changes_during_the_fit(rows, tmp_path, change, form):
    if form != "dense" and change not in ("truncated", "replaced"):
        pytest.skip("how rows are stored does not matter to this change")
    (tmp_path / "other.h5").write_bytes(rows.read_bytes())
    names = {"DATA": str(tmp_path / "data.h5"), "OTHER": str(tmp_path / "other.h5")}
    names["-1"] = str(rows.stat().st_size - 1)
    command, said = CHANGES[change]
    fault = {
        "where": "hpcml.algorithms.objective:Objective.evaluate",
        "rank": 1,
        "call": 3,
        "action": "command",
        "command": [names.get(word, word) for word in command],
    }
    error = _ended(tmp_path, rows, fault, 3, 3, data__x=FORMS[form])
    assert said in error["message"]
    assert error["phase"] == "solve"


def test_a_file_that_changes_during_the_fit_of_rows_in_memory_is_done_with(rows, tmp_path):
    data = tmp_path / "data.h5"
    where = {"where": "hpcml.algorithms.objective:Objective.evaluate", "rank": 1, "call": 3}
    fault = {**where, "action": "command", "command": [*TRUNCATE, str(data), "9000"]}
    result = _ended(tmp_path, rows, fault, 3, 0, data__cache="memory")
    assert result["converged"]
    assert data.stat().st_size == 9000


@pytest.mark.parametrize("times", [3, 4])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO], ids=["ESTALE", "EIO"])
def test_errors_of_a_disk_that_may_pass(rows, tmp_path, results, number, times):
    fault = {"where": "os:preadv", "rank": 1, "call": 5, "action": "errno", "errno": number, "times": times}
    keys = {"solver__name": "lbfgs", "data__x": "X"}
    ended = _ended(tmp_path, rows, fault, 3, 0 if times == 3 else 3, **keys)
    if times == 3:
        assert (ended["reading"]["retries"], ended["reading"]["opens_per_rank"]) == (3, 4)
        assert ended["model_digest"] == results[("lbfgs", "dense", "streamed"), 3]["model_digest"]
        return
    assert "data.h5: cannot be read at offset " in ended["message"]
    assert ended["message"].endswith(f"({os.strerror(number)})")
    assert ended["rank"] == 1


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A file of which every one of three ranks has several read units."""
    X = stores.matrix(n=40_000, d=110)
    return stores.put(tmp_path_factory.mktemp("long") / "rows.h5", X)


# A pass has a thread where its computation is long enough to hide reading.
SLOW = {"solver__name": "newton"}


@pytest.mark.parametrize(("action", "code"), [("raise", 1), ("command", 3)])
def test_what_goes_wrong_in_the_thread_that_reads_ahead(long, tmp_path, action, code):
    data = tmp_path / "data.h5"
    os.link(long, data) if action == "raise" else data.write_bytes(long.read_bytes())
    spec = small.write_spec(tmp_path / "spec.yaml", data, data__cache="none", data__partition={}, **SLOW)
    fault = {"where": "hpcml.io.read.table:HDF5Table.read", "rank": 2, "call": 10, "action": action}
    fault["thread"] = "hpcml-read"  # its tenth call is behind the first looks at the rows
    fault["command"] = [*TRUNCATE, str(data), str(1 << 20)]
    run = tmp_path / "run"
    done = small.hpcml(
        "run", spec, "-n", "3", f"output.dir={run}", env=small.fault(tmp_path, fault, HPCML_KERNELS="numpy")
    )
    assert done.returncode == code, done.describe()
    assert done.survivors == ()
    assert done.seconds < SECONDS
    assert done.stderr.count("Traceback (most recent call last)") == (code == 1)
    error = json.loads((run / "error.json").read_text())
    assert "in _work" in error["traceback"]  # it was the thread
    if code == 1:
        assert (error["rank"], error["message"]) == (2, "a bug was planted here")
    else:
        assert f"data.h5: is truncated: it ends at byte {1 << 20}" in error["message"]


def test_rows_that_are_read_ahead_give_the_same_model(long, tmp_path):
    keys = {"data__partition": {}, "solver__max_iter": 5}
    lines = []
    for number, io in enumerate(({"prefetch": 0}, {"prefetch": 1}, {"prefetch": 4})):
        spec = small.write_spec(tmp_path / f"{number}.yaml", long, data__cache="none", data__io=io, **keys)
        lines.append(["run", spec, f"output.dir={tmp_path / str(number)}"])
    spec = small.write_spec(tmp_path / "memory.yaml", long, data__cache="memory", **keys)
    lines.append(["run", spec, f"output.dir={tmp_path / 'memory'}"])
    assert {ranks[0].code for ranks in small.commands(2, lines, tmp_path / "on2")} == {0}
    found = [small.result_of(tmp_path / name) for name in ("0", "1", "2", "memory")]
    assert len({result["model_digest"] for result in found}) == 1
    assert np.all([result["reading"]["opens_per_rank"] == 1 for result in found])
