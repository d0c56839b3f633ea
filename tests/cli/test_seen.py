"""What a user sees: the table, origins, descriptions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import harness
import pytest
import small

JOBS = sorted((harness.ROOT / "jobs").glob("*.yaml"))
TABLE = r"""
run           small: converged, the certificate is at most tol \(1e-08\)
rows          \d+ training, \d+ measured
features      6
read          57\.4 KiB in 2 passes, kept in memory
ranks         1 on 1 node, 10 shards
memory        \d+(\.\d)? MiB at most a rank
iterations    \d+ of lbfgs \(asked for\)
objective     0\.\d{6,10}
certificate   \d\.\d\de-\d\d \(relative duality gap; tol 1e-08\)
roc_auc       0\.\d{6} \(test rows\)
log_loss      0\.\d{6} \(test rows\)
accuracy      0\.\d{6} \(test rows\)
seconds       S \(convert S, open S, read S, solve S, evaluate S\)
model         [0-9a-f]{64}
directory     RUN
"""


@pytest.fixture(scope="module")
def ran(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    spec = small.write_spec(folder / "spec.yaml", rows, checkpoint__every=1)
    return folder, small.hpcml("run", spec, f"output.dir={folder / 'run'}", check=0)


def _seen(*words: str | Path) -> str:
    return small.hpcml(*words, check=0).stdout


def test_the_table(ran):
    folder, done = ran
    expected = re.sub(r"\bS\b", r"\\d+\\.\\d\\d", TABLE.strip())
    expected = expected.replace("RUN", re.escape(str(folder / "run")))
    assert re.fullmatch(expected, done.stdout.strip()), done.stdout
    result = small.result_of(folder / "run")
    for name, value in result["metrics"].items():
        assert f"{name:<13} {value:.6f} (test rows)" in done.stdout
    assert f"{result['n_rows']:,} training" in done.stdout and result["model_digest"] in done.stdout


def test_progress(ran, rows, tmp_path):
    _, done = ran
    said = done.stderr.splitlines()
    assert said[0].endswith("training rows x 6 features, kept in memory (every rank's share fits in memory)")
    assert said[1] == "solving with lbfgs (asked for)"
    assert re.fullmatch(r"iteration     0   objective 0\.69314718   certificate about .* s", said[2])
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    quiet = small.hpcml("run", spec, f"output.dir={tmp_path / 'run'}", "output.progress=none", check=0)
    assert quiet.stderr == ""


def test_the_log_has_what_was_shown(ran):
    log = (ran[0] / "run" / "log.txt").read_text()
    assert all(line in log for line in ran[1].stderr.splitlines())


def test_show_says_where_values_came_from(rows, tmp_path):
    (tmp_path / "base.yaml").write_text(
        "model: {type: logistic_regression, alpha: 0.5}\nsolver: {tol: 1e-4}\n"
    )
    spec = tmp_path / "spec.yaml"
    spec.write_text("extends: base.yaml\nname: shown\ndata: {path: rows.h5}\noutput: {model: off}\n")
    lines = _seen("show", spec, "solver.max_iter=7", "solver.max_time=1:30:00").splitlines()
    found = {line.split()[0]: re.split(r"\s{2,}", line)[1:] for line in lines}
    assert found["name"] == ['"shown"', f"{spec}:2"]
    assert found["model.alpha"] == ["0.5", f"{tmp_path / 'base.yaml'}:1"]
    assert found["solver.tol"] == ["0.0001", f"{tmp_path / 'base.yaml'}:2"]  # YAML reads 1e-4 as a text
    assert found["solver.max_iter"] == ["7", "command line"]
    assert found["solver.max_time"] == ['"5400s"', "command line"]  # and 1:30:00 as a number to the base 60
    assert found["output.model"] == ["false", f"{spec}:4"]
    assert found["data.split.test"] == ["0.2", "default"]
    assert found["data.path"][0] == json.dumps(str(tmp_path / "rows.h5"))


def test_what_show_prints_can_be_run(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows, output__dir=str(tmp_path / "run"))
    (tmp_path / "again.yaml").write_text(_seen("show", spec, "--yaml"))
    assert _seen("show", spec, "--json") == _seen("show", tmp_path / "again.yaml", "--json")
    assert json.loads(_seen("show", spec, "--json"))["solver"]["tol"] == 1e-8


def test_show_lists_all_keys():
    text = _seen("show", "--keys")
    for key in (
        "data.split.test",
        "preprocessing.standardize.with_mean",
        "solver.max_time",
        "watchdog.end_after",
    ):
        assert f"\n{key}\n" in text
    assert "(not in this version)" in text


def test_inspect_data(rows):
    text = _seen("inspect", rows)
    assert re.search(r"^kind +HDF5 file$", text, re.MULTILINE)
    assert re.search(r"^  X +600 x 6, float64, contiguous$", text, re.MULTILINE)
    assert re.search(r"^  chunked +600 x 6, float64, chunks 48 x 6, gzip\+shuffle$", text, re.MULTILINE)
    assert re.search(
        r"^  S +CSR 600 x 6, float64, \d+ entries \(\d\d\.\d\d%\), contiguous$", text, re.MULTILINE
    )
    assert "indptr" not in text


def test_inspect_what_a_run_left(ran, rows):
    run = ran[0] / "run"
    result = small.result_of(run)
    model = json.loads(_seen("inspect", run / "model.h5", "--json"))
    assert model["kind"] == "model"
    assert model["about"]["digest"] == result["model_digest"] and model["about"]["converged"] is True
    assert model["data sets"]["coef"] == "6, float64, contiguous"
    found = json.loads(_seen("inspect", run, "--json"))
    assert found["kind"] == "run" and found["state"] == "done" and found["result"] == result
    assert found["checkpoints"] == [f"step-{result['n_iter'] - i:08d}.ckpt" for i in (1, 0)]
    newest = run / "checkpoints" / found["checkpoints"][-1]
    checkpoint = json.loads(_seen("inspect", newest, "--json"))
    assert checkpoint["kind"] == "checkpoint" and checkpoint["state"]["n_iter"] == result["n_iter"]
    assert "float64 [7]" in _seen("inspect", newest)


def test_inspect_predictions(ran, rows, tmp_path):
    out = tmp_path / "p.h5"
    assert _seen("predict", ran[0] / "run", rows, "-o", out) == f"{out}: predictions of 600 rows\n"
    assert json.loads(_seen("inspect", out, "--json"))["kind"] == "predictions"


@pytest.mark.parametrize("what", ["model", "data"])
def test_predict_does_not_write_over_its_inputs(ran, rows, tmp_path, what):
    model, data = tmp_path / "model.h5", tmp_path / "data.h5"
    model.write_bytes((ran[0] / "run" / "model.h5").read_bytes())
    data.write_bytes(rows.read_bytes())
    before = small.everything(tmp_path)
    done = small.hpcml("predict", model, data, "-o", tmp_path / f"{what}.h5", check=2)
    assert "would replace" in done.stderr
    assert small.everything(tmp_path) == before


def test_evaluate_prints_a_table(ran, rows):
    text = _seen("evaluate", ran[0] / "run", rows, "--part", "test", "--metric", "accuracy")
    result = small.result_of(ran[0] / "run")
    value = result["metrics"]["accuracy"]
    assert text == f"rows         {result['n_test_rows']}\naccuracy     {value:.10f}\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["evaluate", "MODEL", "DATA", "--metric", "rmse"], 2, "'rmse' does not fit; choose from roc_auc"),
        (["evaluate", "MODEL", "DATA", "-y", "t"], 3, "is not a class of the model"),
        (["evaluate", "MODEL", "DATA", "-x", "y"], 3, "X needs rows and columns"),
        (["predict", "MODEL", "OTHER", "-o", "OUT"], 3, "has 2 columns and the model"),
        (["predict", "MODEL", "MISSING", "-o", "OUT"], 3, "there is no such file"),
        (["predict", "DATA", "DATA", "-o", "OUT"], 3, "is not a model file"),
        (["predict", "MODEL", "DATA", "-o", "BELOW"], 5, "a part of the path is not a directory"),
        (["inspect", "MISSING"], 3, "there is no such file"),
        (["inspect", "FOLDER"], 3, "is not a run directory"),
    ],
)
def test_the_other_verbs_refuse_in_one_sentence(ran, rows, tmp_path, words, code, said):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = [[1.0, 2.0]]
    names = {
        "MODEL": ran[0] / "run", "DATA": rows, "OTHER": tmp_path / "other.h5", "OUT": tmp_path / "out.h5",
        "MISSING": tmp_path / "missing.h5", "BELOW": tmp_path / "other.h5" / "out.h5", "FOLDER": tmp_path,
    }  # fmt: skip
    done = small.hpcml(*[names.get(word, word) for word in words], check=code)
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("spec", JOBS, ids=lambda path: path.name)
def test_the_jobs_are_valid(spec):
    assert _seen("validate", "--strict", spec).endswith(" is valid\n")


def test_validate_says_what_is_wrong_with_each(rows, tmp_path):
    good = small.write_spec(tmp_path / "good.yaml", rows)
    odd = small.write_spec(tmp_path / "odd.yaml", rows, data__split={"method": "none"})
    bad = small.write_spec(tmp_path / "bad.yaml", rows, solver__name="newtonn")
    done = small.hpcml("validate", good, odd, bad, check=2)
    assert done.stdout == f"{good}: small is valid\n{odd}: small is valid\n"
    assert "odd.yaml: data.split.method: none leaves no test rows" in done.stderr
    assert "bad.yaml:" in done.stderr and "newton" in done.stderr
    assert small.hpcml("validate", "--strict", odd).returncode == 2
    said = [
        json.loads(line) for line in small.hpcml("validate", "--json", good, bad, check=2).stdout.splitlines()
    ]
    assert [entry["valid"] for entry in said] == [True, False]


def test_overrides_may_stand_anywhere(rows, tmp_path):
    spec = small.write_spec(tmp_path / "spec.yaml", rows)
    words = ("run", spec, "solver.tol=1e-3", "--json", f"output.dir={tmp_path / 'run'}", "--set", "seed=3")
    result = json.loads(_seen(*words))
    assert result["tol"] == 1e-3 and json.loads(_seen(*words, "-n", "1")) == result


def test_a_reader_who_leaves_is_no_error(rows, tmp_path):
    done = harness.run_job(
        ["bash", "-c", f"{harness.sys.executable} -m hpcml show --keys | head -1; echo ${{PIPESTATUS[0]}}"]
    )
    assert done.stdout.splitlines()[-1] == "0" and "Traceback" not in done.stderr
