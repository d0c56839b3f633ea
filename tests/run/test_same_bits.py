"""One spec, one answer: any number of ranks, any storage of the same rows, any cache."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import small

from hpcml.data import RowSelection
from hpcml.io.files import file_digest
from hpcml.io.model import read_model

SIZES = [1, 2, 3, 5]
SOLVERS = ["gd", "nesterov", "lbfgs", "newton"]
STANDARDIZE = [{"standardize": {}}]
OTHERS: dict[str, dict[str, Any]] = {
    "more ranks than shards": {"data__partition": {}},
    "chunked": {"data__x": "chunked"},
    "integers": {"data__x": "integers", "data__cache": "none"},
    "float32": {"data__x": "float32", "data__dtype": "float32"},
    "weights": {"data__weight": "w", "preprocessing": STANDARDIZE},
    "C": {"model": {"type": "logistic_regression", "C": 3.0}, "model__fit_intercept": False},
    "no test part": {"data__split": {"method": "none"}, "data__x": "S", "preprocessing": STANDARDIZE},
    "sgd": {"solver": {"name": "sgd", "batch_size": 50, "tol": 1e-2}, "data__cache": "none", "data__x": "S"},
    "local sgd": {"solver": {"name": "lbfgs", "start": "local_sgd"}, "data__x": "chunked"},
    "averaged sgd": {"solver": {"name": "sgd", "averaging": True, "tol": 0.5}, "data__x": "chunked"},
    "some rows": {"data__rows": {"start": 100, "stop": 500, "fraction": 0.7}, "seed": 5},
}


def _keys(solver: str, task: str, x: str, cache: str) -> dict[str, Any]:
    model, y = {"logistic": ("logistic_regression", "y"), "linear": ("linear_regression", "t")}[task]
    return {
        "solver__name": solver,
        "model__type": model,
        "data__y": y,
        "data__x": {"dense": "X", "csr": "S"}[x],
        "data__cache": cache,
    }


# Each solver sees each storage in memory and streamed, and each task.
PLACES = {("logistic", "dense"): "memory", ("logistic", "csr"): "none",
          ("linear", "dense"): "none", ("linear", "csr"): "memory"}  # fmt: skip
MANY = {
    f"{solver} {task} {x}": _keys(solver, task, x, cache)
    for solver, ((task, x), cache) in itertools.product(SOLVERS, PLACES.items())
}
CASES = MANY | OTHERS
# Five ranks on two cores take their time: each solver and task, from memory and streamed.
WITH_FIVE = {*(case for case in MANY if case.endswith("csr")), "more ranks than shards"}
TWINS = {case: keys | {"data__cache": {"memory": "none", "none": "memory"}[keys["data__cache"]]}
         for case, keys in MANY.items()}  # fmt: skip
# What of result.json may depend on where and how it was computed.
CIRCUMSTANCES = ("n_ranks", "seconds", "reading", "seconds_checkpoints", "messages", "peak_bytes", "run")


def _rank_free(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in CIRCUMSTANCES}


def _slug(case: str) -> str:
    return case.replace(" ", "-").replace(",", "")


@pytest.fixture(scope="module")
def ran(rows, tmp_path_factory):
    """Every case on every number of ranks: {case: {size: run directory}}; what each rank saw is checked."""
    folder = tmp_path_factory.mktemp("same")
    specs = {
        case: small.write_spec(folder / f"{_slug(case)}.yaml", rows, **keys) for case, keys in CASES.items()
    }
    found: dict[str, dict[int, Path]] = {case: {} for case in CASES}
    for n in SIZES:
        lines, more = [], []
        for case, spec in specs.items():
            if n == 5 and case not in WITH_FIVE:
                continue
            found[case][n] = folder / f"{n}-{_slug(case)}"
            lines.append(["run", spec, f"output.dir={found[case][n]}", "--json"])
        for case, x in (("lbfgs logistic dense", "X"), ("lbfgs logistic csr", "S")):
            model = found[case][1]
            more += [
                ["predict", model, rows, "-x", x, "-o", folder / f"{n}-{x}.h5"],
                [
                    "predict",
                    model / "model.h5",
                    rows,
                    "-x",
                    x,
                    "--part",
                    "test",
                    "-o",
                    folder / f"{n}-{x}-test.h5",
                ],
                ["evaluate", model, rows, "-x", x, "--part", "test", "--json"],
            ]
        ended = small.commands(n, [*lines, *more], folder / f"on{n}", timeout=120)
        for line, ranks in zip([*lines, *more], ended, strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
            assert not any(rank.stdout or rank.stderr for rank in ranks[1:]), (line, ranks)
        for line, ranks in zip(lines, ended, strict=False):
            written = small.result_of(Path(line[2].removeprefix("output.dir=")))
            assert json.loads(ranks[0].stdout.splitlines()[-1]) == written, line
        (folder / f"evaluate{n}.json").write_text(json.dumps([ranks[0].stdout for ranks in ended[-6:]]))
    return found


@pytest.mark.parametrize("case", CASES)
def test_ranks_do_not_change_the_answer(ran, case):
    runs = ran[case]
    results = {n: small.result_of(run) for n, run in runs.items()}
    rank_free = [_rank_free(result) for result in results.values()]
    assert rank_free[0]["converged"], rank_free[0]["reason"]
    assert all(r == rank_free[0] for r in rank_free)
    assert [r["n_ranks"] for r in results.values()] == list(runs)
    journals = [small.iterations(run) for run in runs.values()]
    assert [line["iter"] for line in journals[0]] == list(range(rank_free[0]["n_iter"] + 1))
    assert all(journal == journals[0] for journal in journals)
    models = [small.everything(run)["model.h5"] for run in runs.values()]
    assert len({len(model) for model in models}) == 1


def test_streaming_does_not_change_the_answer(ran, rows, tmp_path):
    specs = {case: small.write_spec(tmp_path / f"{_slug(case)}.yaml", rows, **TWINS[case]) for case in TWINS}
    lines = [["run", spec, f"output.dir={tmp_path / _slug(case)}"] for case, spec in specs.items()]
    assert all(ranks[0].code == 0 for ranks in small.commands(1, lines, tmp_path / "on1"))
    for case in TWINS:
        one, other = small.result_of(ran[case][1]), small.result_of(tmp_path / _slug(case))
        assert {one["cache"], other["cache"]} == {"memory", "none"}
        assert _rank_free(one) | {"cache": ""} == _rank_free(other) | {"cache": ""}
        assert one["messages"]["allreduce"] == other["messages"]["allreduce"]


def test_other_specs_have_other_digests(ran):
    # A digest that never changes would pass the tests above.
    digests = {case: small.result_of(runs[2])["model_digest"] for case, runs in ran.items()}
    del digests["chunked"]  # the same rows, cut into other shards
    assert len(set(digests.values())) == len(digests)


def test_chunks_change_no_more_than_rounding(ran):
    chunked, dense = (read_model(ran[c][2] / "model.h5").arrays for c in ("chunked", "lbfgs logistic dense"))
    np.testing.assert_allclose(chunked["coef"], dense["coef"], rtol=1e-9)


def test_solvers_agree_on_the_minimum(ran):
    for task, x in PLACES:
        values = [small.result_of(ran[f"{s} {task} {x}"][2])["objective"] for s in SOLVERS]
        assert max(values) - min(values) <= 1e-7 * abs(values[0])


def test_there_was_more_than_one_shard_a_rank_and_less(ran):
    assert small.result_of(ran["lbfgs logistic dense"][3])["n_shards"] == 10
    assert small.result_of(ran["more ranks than shards"][5])["n_shards"] == 1


@pytest.mark.parametrize("case", ["lbfgs logistic dense", "newton linear csr", "no test part"])
def test_the_digest_is_of_the_bits_in_the_model_file(ran, case):
    import hashlib

    file = read_model(ran[case][3] / "model.h5")
    hasher = hashlib.sha256(file.about["kind"].encode())
    for name in ("coef", "intercept", "classes", "mean", "scale"):
        part = file.arrays[name].astype("<f8")
        hasher.update(np.array([part.size], "<i8").tobytes() + part.tobytes())
    assert hasher.hexdigest() == small.result_of(ran[case][3])["model_digest"] == file.about["digest"]


def _split(rows: Path) -> np.ndarray:
    keep = RowSelection(0, test=0.2, part="test").keeps(np.arange(small.N_ROWS))
    assert 0.1 < keep.mean() < 0.3
    return keep


def test_the_numbers_are_those_of_plain_numpy(ran, rows):
    run = ran["lbfgs logistic dense"][3]
    result, model = small.result_of(run), read_model(run / "model.h5").arrays
    with h5py.File(rows) as file:
        X, y = file["X"][()], file["y"][()]
    test = _split(rows)
    z = X @ model["coef"] + model["intercept"]
    loss = np.log1p(np.exp(-np.where(y == 1, z, -z)))
    assert result["objective"] == pytest.approx(loss[~test].mean() + 0.005 * (model["coef"] ** 2).sum())
    pairs = z[test & (y == 1)][:, None] - z[test & (y == 0)]
    assert result["metrics"] == pytest.approx(
        {
            "roc_auc": ((pairs > 0) + 0.5 * (pairs == 0)).mean(),
            "log_loss": loss[test].mean(),
            "accuracy": ((z > 0) == y)[test].mean(),
        }
    )
    assert (result["n_rows"], result["n_test_rows"]) == ((~test).sum(), test.sum())
    residual = (1 / (1 + np.exp(-z)) - y)[~test]
    gradient = X[~test].T @ residual / residual.size + 0.01 * model["coef"]
    assert np.abs(gradient).max() < 1e-5 and abs(residual.mean()) < 1e-5


@pytest.mark.parametrize("x", ["X", "S"])
def test_predictions_are_the_same_bytes(ran, rows, x):
    folder = ran["C"][1].parent
    for name in (f"{x}.h5", f"{x}-test.h5"):
        assert len({file_digest(folder / f"{n}-{name}") for n in SIZES}) == 1
    case = {"X": "lbfgs logistic dense", "S": "lbfgs logistic csr"}[x]
    model = read_model(ran[case][1] / "model.h5").arrays
    with h5py.File(folder / f"5-{x}.h5") as file, h5py.File(folder / f"5-{x}-test.h5") as part:
        rows_read, probability = file["row"][()], file["probability"][()]
        assert (file["prediction"][()] == (probability > 0.5)).all()
        assert (part["row"][()] == np.flatnonzero(_split(rows))).all()
        assert (part["probability"][()] == probability[part["row"][()]]).all()
    with h5py.File(rows) as file:
        X = file[{"X": "X", "S": "zeros"}[x]][()]
    assert (rows_read == np.arange(small.N_ROWS)).all()
    np.testing.assert_allclose(
        probability, 1 / (1 + np.exp(-(X @ model["coef"] + model["intercept"]))), rtol=1e-12
    )


@pytest.mark.parametrize("n", SIZES)
def test_evaluate_gives_the_metrics_of_the_run(ran, n):
    folder = ran["C"][1].parent
    said = json.loads((folder / f"evaluate{n}.json").read_text())
    for text, case in ((said[2], "lbfgs logistic dense"), (said[5], "lbfgs logistic csr")):
        assert json.loads(text)["metrics"] == small.result_of(ran[case][1])["metrics"]  # to the last bit
        assert json.loads(text)["n_rows"] == small.result_of(ran[case][1])["n_test_rows"]


def test_a_run_directory_is_complete(ran):
    for runs in ran.values():
        for run in runs.values():
            files = small.everything(run)
            manifest = json.loads(files["manifest.json"])
            want = {
                "spec.yaml",
                "resolved.yaml",
                "provenance.json",
                "metrics.jsonl",
                "model.h5",
                "result.json",
            }
            assert set(manifest["files"]) == want
            for name, digest in manifest["files"].items():
                assert file_digest(run / name) == digest
            assert set(files) <= want | {"manifest.json", "state.json", "log.txt"}
            assert json.loads(files["state.json"])["state"] == "done"
            mark = (run / "manifest.json").stat().st_mtime_ns
            assert all((run / name).stat().st_mtime_ns <= mark for name in want)


def test_the_result_has_what_was_promised(ran):
    result = small.result_of(ran["weights"][2])
    promised = {
        "model_digest", "objective", "certificate", "converged", "reason", "n_iter", "metrics", "n_rows",
        "n_ranks", "arithmetic", "seconds",
    }  # fmt: skip
    assert promised <= set(result)
    assert all(isinstance(value, float) for value in result["metrics"].values())
    assert set(result["seconds"]) == {"convert", "open", "read", "solve", "evaluate", "total"}
    assert result["certificate"] <= result["tol"] == 1e-8
    provenance = json.loads(small.everything(ran["weights"][2])["provenance.json"])
    assert set(provenance) >= {"command", "versions", "hosts", "git", "slurm", "python", "system"}


def test_the_number_of_messages_does_not_grow_with_the_ranks(ran):
    for n in SIZES[1:]:
        result = small.result_of(ran["newton logistic csr"][n])
        other = small.result_of(ran["newton logistic csr"][1])
        assert result["messages"]["allreduce"] == other["messages"]["allreduce"]
