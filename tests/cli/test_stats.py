"""`hpcml stats`: the table, the JSON, and what it refuses; run/statistics.py is tested here."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import small

TABLE = """\
FILE:X: 4 rows x 3 features, weight 8

feature        mean  deviation  minimum  maximum  zeros  missing
delay       29.1667    33.9812     -1.5      100      0        1
carrier=AA      0.5        0.5        0        1      2        0
distance    1.5e+06          0  1.5e+06  1.5e+06      0        0
y               0.5        0.5        0        1      2        0

label early    2 rows   50.0%
label on time  2 rows   50.0%

most correlated: delay and carrier=AA, 0.638135
"""


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    path = tmp_path_factory.mktemp("stats") / "flights.h5"
    with h5py.File(path, "w") as file:
        file["X"] = [[-1.5, 0, 1.5e6], [100.0, 1, 1.5e6], [26.0, 1, 1.5e6], [np.nan, 0, 1.5e6]]
        file["y"] = [0, 1, 1, 0]
        file["w"] = [2.0, 1.0, 3.0, 2.0]
        file["feature_names"] = ["delay", "carrier=AA", "distance"]
        file.attrs["classes"] = ["early", "on time"]
    return path


def stats(*words, **options):
    return small.hpcml("stats", *words, **options)


def test_the_table(flights):
    done = stats(flights, "--weight", "w", "--correlations", check=0)
    assert done.stdout == TABLE.replace("FILE", str(flights))


def test_without_labels_and_weights(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["rows"] = np.arange(1200.0).reshape(1, 1200)
    said = stats(tmp_path / "d.h5", "--x", "rows", "--correlations", check=0).stdout.splitlines()
    assert said[0] == f"{tmp_path / 'd.h5'}:rows: 1 rows x 1,200 features"
    assert said[3].split() == ["x0", "0", "0", "0", "0", "1", "0"] and len(said) == 3 + 1000 + 3
    assert said[-3:] == ["... and 200 more features; --json has all of them", "", NO_PAIR]


NO_PAIR = "no two features can be correlated"


def test_json_is_the_same_for_any_number_of_ranks(rows, tmp_path):
    words = [["stats", rows, "-x", x, "-y", "t", "--weight", "w", "--correlations", "--json"] for x in "XS"]
    said = [
        [ranks[0].stdout for ranks in small.commands(n, words, tmp_path / str(n), timeout=120)]
        for n in (1, 3, 5)
    ]
    assert said[0] == said[1] == said[2]
    with h5py.File(rows) as file:
        X, t, w = file["X"][()], file["t"][()], file["w"][()]
    found = json.loads(said[0][0])
    np.testing.assert_allclose(found["correlation"], np.cov(X.T, aweights=w) / _spread(X, w), rtol=1e-10)
    np.testing.assert_allclose([one["mean"] for one in found["features"]], np.average(X, 0, w), rtol=1e-12)
    assert found["y"]["maximum"] == t.max() and found["labels"] is None
    assert found["weight"] == pytest.approx(w.sum(), rel=1e-15)


def _spread(X, w):
    deviation = np.sqrt(np.diag(np.cov(X.T, aweights=w)))
    return np.outer(deviation, deviation)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-y", "late"], "there is no dataset 'late'"),
        (["-x", "y"], "X needs rows and columns"),
        (["--weight", "none"], "there is no dataset 'none'"),
    ],
)
def test_refused(flights, words, said):
    done = stats(flights, *words, check=3)
    assert said in done.stderr and done.stderr.count("error") == 1
    assert "there is no such file" in stats("none.h5", check=3).stderr
