"""Whole jobs with offsets: the same answer wherever rows are, and predictions that use them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import small
from scipy.optimize import minimize

from hpcml.data import RowSelection
from hpcml.io.files import file_digest
from hpcml.io.model import read_model
from hpcml.io.write.predictions_read import read_predictions

SIZES = (1, 3)
POISSON = {"type": "poisson_regression", "alpha": 0.01}
KEYS = {"model": POISSON, "data__y": "n", "solver__tol": 1e-12}
CASES = {
    "exposure": {"data__exposure": "e"},
    "offset": {"data__offset": "o"},
    "streamed": {"data__exposure": "e", "data__cache": "none"},
    "scratch": {"data__exposure": "e", "data__cache": "scratch"},
    "weighted": {"data__exposure": "e", "data__weight": "w", "evaluation__predictions": "test"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The small rows with counts n over exposures e, and offsets o of the same bits."""
    path = small.make_rows(tmp_path_factory.mktemp("exposed") / "rows.h5")
    rng = np.random.default_rng(9)
    with h5py.File(path, "r+") as file:
        file["e"] = rng.uniform(0.2, 5.0, small.N_ROWS)
        file["o"] = np.log(file["e"][()])
        file["n"] = rng.poisson(file["e"][()] * np.exp(0.3 * file["X"][:, 0] + 0.5))
    return path


@pytest.fixture(scope="module")
def ran(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ran")
    specs = {
        case: small.write_spec(folder / f"{case}.yaml", data, **KEYS, **keys) for case, keys in CASES.items()
    }
    found = {case: {n: folder / f"{n}-{case}" for n in SIZES} for case in CASES}
    for n in SIZES:
        lines = [
            ["run", spec, f"output.dir={found[case][n]}", f"scratch.path={folder}"]
            for case, spec in specs.items()
        ]
        model = found["weighted"][1]
        for name in ("--exposure=e", "--offset=o"):
            out = folder / f"{n}{name}.h5"
            lines.append(["predict", model, data, "--part=test", name, "-o", out])
            lines.append(["evaluate", model, data, "-y", "n", "--part=test", "--json", name])
        ended = small.commands(n, lines, folder / f"on{n}", timeout=120)
        for line, ranks in zip(lines, ended, strict=True):
            assert [rank.code for rank in ranks] == [0] * n, (line, ranks)
        found[n] = [ranks[0].stdout for ranks in ended]
    return found


def test_the_same_model_wherever_the_rows_are(ran):
    digests = {case: {small.result_of(run)["model_digest"] for run in ran[case].values()} for case in CASES}
    assert all(len(one) == 1 for one in digests.values())
    same = {next(iter(digests[case])) for case in CASES if case != "weighted"}
    assert len(same) == 1
    assert same != digests["weighted"]


def test_the_optimum(ran, data):
    model = read_model(ran["weighted"][1] / "model.h5")
    keep = RowSelection(test=0.2, part="train").keeps(np.arange(small.N_ROWS))
    with h5py.File(data) as file:
        X, n, e, s = (file[name][()][keep].astype(float) for name in ("X", "n", "e", "w"))
    U = np.column_stack([X, np.ones(len(X))])

    def value_and_gradient(w):
        mean = e * np.exp(U @ w)
        penalised = np.append(w[:-1], 0.0)
        value = s @ (mean - n * np.log(mean)) / s.sum() + 0.005 * penalised @ penalised
        return value, U.T @ (s * (mean - n)) / s.sum() + 0.01 * penalised

    best = minimize(value_and_gradient, np.zeros(7), jac=True, method="BFGS", options={"gtol": 1e-12}).x
    np.testing.assert_allclose(model.arrays["coef"], best[:-1], atol=1e-6)
    assert model.arrays["intercept"][0] == pytest.approx(best[-1], abs=1e-6)


def test_predictions_with_their_exposure(ran, data):
    run = ran["weighted"][1]
    columns, _ = read_predictions(run / "predictions.h5")
    model = read_model(run / "model.h5").arrays
    with h5py.File(data) as file:
        rows = columns["row"]
        mean = file["e"][()] * np.exp(file["X"][()] @ model["coef"] + model["intercept"])
    np.testing.assert_allclose(columns["prediction"], mean[rows], rtol=1e-12)
    files = [run.parent / f"{n}--{name}.h5" for n in SIZES for name in ("exposure=e", "offset=o")]
    for file in files:
        again, _ = read_predictions(file)
        assert again["prediction"].tobytes() == columns["prediction"].tobytes()
    assert file_digest(files[0]) == file_digest(files[2])


def test_metrics_of_the_run_come_out_again(ran):
    wanted = small.result_of(ran["weighted"][1])["metrics"]
    assert 0 < wanted["d2"] < 1
    for n in SIZES:
        for line in [text for text in ran[n] if text.startswith("{")]:
            assert json.loads(line)["metrics"] == wanted


def spoilt(data, path, value):
    with small.changed(data, path) as file:
        file["e"][41] = value
        file["o"][41] = np.nan
    return path


REFUSED = {
    "zero": (
        lambda tmp: {"data__exposure": "e"},
        0.0,
        3,
        ":e: row 41 is 0; an exposure is finite and above 0",
    ),
    "below": (lambda tmp: {"data__exposure": "e"}, -2.0, 3, ":e: row 41 is below 0 or NaN; an exposure is"),
    "infinite": (lambda tmp: {"data__exposure": "e"}, np.inf, 3, ":e: row 41 is Inf; an exposure is finite"),
    "NaN": (lambda tmp: {"data__offset": "o"}, 1.0, 3, ":o: row 41 is nan"),
    "absent": (lambda tmp: {"data__offset": "f"}, 1.0, 3, "there is no dataset 'f'"),
    "both": (
        lambda tmp: {"data__offset": "o", "data__exposure": "e"},
        1.0,
        2,
        "data.exposure: offset and exposure exclude each other; write one of the two",
    ),
    "link": (
        lambda tmp: {"data__exposure": "e", "model": {"type": "linear_regression"}},
        1.0,
        2,
        "data.exposure: needs a model of the logarithm of the mean, which model.type: linear_regression",
    ),
}


def test_what_is_refused(data, tmp_path):
    lines = []
    for name, (keys, value, *_) in REFUSED.items():
        rows = spoilt(data, tmp_path / f"{name}.h5", value)
        given = {**KEYS, "data__split": {"method": "none"}, **keys(tmp_path)}
        spec = small.write_spec(tmp_path / f"{name}.yaml", rows, **given)
        lines.append(["run", spec, f"output.dir={tmp_path / name}"])
    for ranks, (_, _, code, sentence) in zip(
        small.commands(3, lines, tmp_path / "on3", timeout=60), REFUSED.values(), strict=True
    ):
        assert {rank.code for rank in ranks} == {code}, ranks
        assert sentence in "".join(rank.stderr for rank in ranks)


def test_a_model_with_an_offset_wants_one(ran, data, tmp_path):
    model, plain = ran["exposure"][1], tmp_path / "plain"
    spec = small.write_spec(tmp_path / "plain.yaml", data)
    want = "the model was trained with data.exposure: e; name the data set of"
    lines = {
        ("run", spec, f"output.dir={plain}"): (0, ""),
        ("predict", model, data, "-o", tmp_path / "p.h5"): (2, want),
        ("evaluate", model, data, "-y", "n"): (2, want),
        ("evaluate", model, data, "-y", "n", "--offset=o", "--exposure=e"): (2, "exclude each other"),
        ("evaluate", plain, data, "--exposure=e"): (2, "is no model of the logarithm of the mean"),
        ("evaluate", plain, data, "--offset=o"): (0, ""),
        ("predict", model, spoilt(data, tmp_path / "bad.h5", 0.0), "--exposure=e", "-o", tmp_path / "p.h5"): (
            3,
            "bad.h5:e: row 41 is 0; an exposure is finite and above 0",
        ),
    }
    ended = small.commands(1, list(lines), tmp_path / "on1", timeout=60)
    for (rank,), (code, sentence) in zip(ended, lines.values(), strict=True):
        assert rank.code == code, rank
        assert sentence in rank.stderr
    assert not (tmp_path / "p.h5").exists()


def test_tables(data, tmp_path):
    """A column beside X is no feature; the fit is that of the same rows in HDF5."""
    with h5py.File(data) as file:
        columns = {f"x{j}": file["X"][:, j] for j in range(small.N_COLUMNS)}
        columns |= {name: file[name][()] for name in ("n", "e", "w")}
    lines = zip(*(map(repr, column.tolist()) for column in columns.values()), strict=True)
    (tmp_path / "t.csv").write_text("\n".join([",".join(columns), *map(",".join, lines)]) + "\n")
    keys = {**KEYS, "data__exposure": "e", "data__weight": "w", "data__partition": small.CUT}
    del keys["data__y"]
    table = {**keys, "data__source": str(tmp_path / "t.csv"), "data__target": "n", "data__path": "t.h5"}
    spec = small.write_spec(tmp_path / "table.yaml", tmp_path / "t.h5", **table)
    here = small.write_spec(tmp_path / "hdf5.yaml", data, **keys, data__y="n")
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for n, given in ((3, [["run", spec, f"output.dir={runs[0]}"]]), (1, [
        ["run", here, f"output.dir={runs[1]}"],
        ["run", spec, f"output.dir={runs[2]}"],
    ])):  # fmt: skip
        for ranks in small.commands(n, given, tmp_path / f"tables{n}", timeout=60):
            assert {rank.code for rank in ranks} == {0}, ranks
    assert len({small.result_of(run)["model_digest"] for run in runs}) == 1
    with h5py.File(tmp_path / "t.h5") as made:
        assert {*made} == {"X", "y", "e", "w", "feature_names"}
        assert made["X"].shape[1] == small.N_COLUMNS


def test_an_index_answers_for_offsets(data, tmp_path):
    """Answers for rows with exposures are not those for rows with offsets of the same file."""
    rows = tmp_path / "rows.h5"
    rows.write_bytes(data.read_bytes())
    specs = {
        case: small.write_spec(tmp_path / f"{case}.yaml", rows, **KEYS, **CASES[case], data__cache="none")
        for case in ("exposure", "offset")
    }
    lines = [
        ["run", specs["exposure"], f"output.dir={tmp_path / 'before'}"],
        ["index", specs["exposure"]],
        *(["run", spec, f"output.dir={tmp_path / case}"] for case, spec in specs.items()),
    ]
    for ranks in small.commands(2, lines, tmp_path / "on2", timeout=60):
        assert {rank.code for rank in ranks} == {0}, ranks
    before, exposure, offset = (small.result_of(tmp_path / name) for name in ("before", *specs))
    assert exposure["data_digest"] == before["data_digest"] == offset["data_digest"]
    assert exposure["model_digest"] == before["model_digest"] == offset["model_digest"]
    assert exposure["reading"]["passes"] < before["reading"]["passes"]
