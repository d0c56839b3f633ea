"""Expressions and the steps of a recipe, against pandas and the rules of missing values."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.collectives import run_threads
from hpcml.errors import DataError, SpecError
from hpcml.io.convert.columns import Column
from hpcml.io.convert.conversion import convert
from hpcml.io.convert.expression import parse
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.recipe_file import read_recipe
from hpcml.io.convert.steps import Steps
from hpcml.io.files import file_digest

NAN = math.nan
COLUMNS = {
    "a": Column("a", np.array([1.0, -2.0, 0.0, NAN, 4.5])),
    "b": Column("b", np.array([2.0, 0.0, 0.0, 1.0, NAN])),
    "two words": Column("two words", np.arange(5.0)),
    "t": Column("t", np.array([0, 1, -1, 0, 1], np.int32), ["UA", "AA"]),
}


def run(size: int, source: Path, destination: Path, recipe: Recipe) -> None:
    run_threads(size, lambda comm: convert(comm, [source], destination, recipe, lambda line: None))


def value(text: str) -> list[float]:
    return parse(text).column(COLUMNS, 5).values.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 2 * b", [5, -2, 0, NAN, NAN]),
        ("(a + 2) * b", [6, 0, 0, NAN, NAN]),
        ("a - b - 1", [-2, -3, -1, NAN, NAN]),
        ("-a ** 2", [-1, -4, 0, NAN, -20.25]),
        ("2 ** 3 ** 2 + 0 * a", [512, 512, 512, NAN, 512]),
        ("a ** 0", [1, 1, 1, NAN, 1]),
        ("b ** -1", [0.5, NAN, NAN, 1, NAN]),
        ("a / b", [0.5, NAN, NAN, NAN, NAN]),
        ("7 // b", [3, NAN, NAN, 7, NAN]),
        ("-7 % b", [1, NAN, NAN, 0, NAN]),
        ("a > 0", [1, 0, 0, NAN, 1]),
        ("a > 0 and b > 0", [1, 0, 0, NAN, NAN]),
        ("a > 0 or b > 0", [1, 0, 0, 1, 1]),
        ("not a > 0", [0, 1, 1, NAN, 0]),
        ("not missing(a) and a != 1", [0, 1, 1, 0, 1]),
        ("a == 1 or a == 4.5 and b == 1", [1, 0, 0, NAN, NAN]),
        ("t == 'UA'", [1, 0, NAN, 1, 0]),
        ('"UA" != t', [0, 1, NAN, 0, 1]),
        ("t in [UA, DL]", [1, 0, NAN, 1, 0]),
        ("t not in ['UA']", [0, 1, NAN, 0, 1]),
        ("missing(t)", [0, 0, 1, 0, 0]),
        ("a in [-2, 4.5]", [0, 1, 0, NAN, 1]),
        ("`two words` * 2", [0, 2, 4, 6, 8]),
        ("log(a)", [0, NAN, NAN, NAN, math.log(4.5)]),
        ("sqrt(a)", [1, NAN, 0, NAN, math.sqrt(4.5)]),
        ("max(a, b) + min(a, 1)", [3, -2, 0, NAN, NAN]),
        ("abs(a) + 1e1 + .5", [11.5, 12.5, 10.5, NAN, 15]),
    ],
)
def test_values(text: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(value(text), np.array(expected, float))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a +", "a value is missing at character 4"),
        ("a b", "an operator is missing at character 3"),
        ("a < b < 3", "for two comparisons"),
        ("(a", r"'\)' is missing"),
        ("a $ 1", "not understood at character 2"),
        ("t + 1", "column 't' is text"),
        ("t == t", "two text columns"),
        ("a == UA", "there is no column 'UA'.*texts are written in quotes"),
        ("tt == 'UA'", "did you mean 't'"),
        ("a in [x]", "numbers are compared with texts"),
        ("a in []", "a value is missing"),
        ("__import__('os')", "no function '__import__'"),
        ("a.b", "not understood"),
        ("log(a, b)", "log takes 1 value"),
        ("'text'", "is a text"),
        ("a not b", "'in' is missing"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 40 deep"),
        ("-" * 100 + "a", "nested more than 40 deep"),
        ("a + " * 2000 + "a", "at most 4000 characters"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        value(text)


@given(st.text("ab t+-*/%()<>=!'`[],.0123456789eandorinotmissing", max_size=40))
@settings(max_examples=400)
def test_any_text_is_a_value_or_refused(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert len(value(text)) == 5


NUMBERS = st.recursive(
    st.sampled_from(["a", "b", "3", "0.5"]),
    lambda inner: st.tuples(inner, st.sampled_from([" + ", " - ", " * "]), inner).map(
        lambda parts: f"({''.join(parts)})"
    ),
    max_leaves=12,
)


@given(NUMBERS, NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
@settings(max_examples=100)
def test_arithmetic_as_pandas(left: str, right: str, sign: str) -> None:
    frame = pd.DataFrame({name: COLUMNS[name].values for name in "ab"})
    wanted = np.broadcast_to(np.asarray(frame.eval(left), float), (5,))
    np.testing.assert_array_equal(value(left), wanted)
    other = np.broadcast_to(np.asarray(frame.eval(right), float), (5,))
    compared = getattr(
        pd.Series(wanted), {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}[sign]
    )
    truth = np.where(np.isnan(wanted) | np.isnan(other), np.nan, compared(pd.Series(other)))
    np.testing.assert_array_equal(value(f"{left} {sign} {right}"), truth)


@pytest.mark.parametrize("name", ["log", "log1p", "exp", "sqrt"])
def test_a_function_of_a_row_does_not_depend_on_its_place(name: str) -> None:
    x = np.random.default_rng(0).lognormal(size=101)
    expression = parse(f"{name}(x) + x ** 1.7 + x % 0.3")
    whole = expression.column({"x": Column("x", x)}, 101).values
    for start in range(17):
        part = expression.column({"x": Column("x", x[start : start + 5].copy())}, 5).values
        np.testing.assert_array_equal(part, whole[start : start + 5])


def table(folder: Path) -> tuple[Path, pd.DataFrame]:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "delay": rng.integers(-20, 60, 80).astype(float),
            "time": rng.integers(0, 4, 80).astype(float),
            "dist": rng.integers(100, 3000, 80).astype(float),
            "carrier": rng.choice(["UA", "AA", "DL"], 80),
            "flight": rng.integers(1, 4, 80),
        }
    )
    frame.loc[rng.random(80) < 0.2, "delay"] = NAN
    frame.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv", frame


RECIPE = """
target: late
missing: drop
layout: dense
select: [dist, speed, flight, time]
cast: {flight: category}
fill: {time: 1}
derive: {speed: dist / time, late: delay > 15, unused: speed * 2}
clip: {dist: [200, 2000], speed: [null, 900]}
filter: [delay >= 0, 'carrier in [AA, UA]']
"""


def test_a_recipe_file_as_pandas_would(tmp_path: Path) -> None:
    source, frame = table(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    recipe = Recipe(**read_recipe(tmp_path / "recipe.yaml"))
    for size in (1, 2, 3, 5, 90):
        run_threads(
            size, lambda c, n=size: convert(c, [source], tmp_path / f"{n}.h5", recipe, lambda line: None)
        )
    assert len({file_digest(tmp_path / f"{size}.h5") for size in (1, 2, 3, 5, 90)}) == 1
    frame["speed"] = (frame.dist / frame.time.replace(0, NAN)).clip(upper=900)
    frame["late"], frame["dist"] = (frame.delay > 15).astype(float), frame.dist.clip(200, 2000)
    frame = frame[(frame.delay >= 0) & frame.carrier.isin(["AA", "UA"])]
    frame = frame[["time", "dist", "flight", "speed", "late"]].dropna()
    wanted = pd.get_dummies(frame, columns=["flight"], prefix_sep="=", dtype=float)
    with h5py.File(tmp_path / "1.h5") as file:
        names = list(file["feature_names"].asstr())
        assert names == ["time", "dist", "flight=1", "flight=2", "flight=3", "speed"]
        np.testing.assert_array_equal(file["X"][:], wanted[names].to_numpy())
        np.testing.assert_array_equal(file["y"][:], wanted["late"].to_numpy())
        assert "delay > 15" in file.attrs["hpcml_recipe"]


TEXT_AMONG_NUMBERS = {
    "fill": Steps(fill={"a": 0.0}),
    "clip": Steps(clip={"a": (0.0, 9.0)}),
    "fill of the target": Steps(fill={"b": 1.0}),
}


@pytest.mark.parametrize("case", TEXT_AMONG_NUMBERS)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_text_in_a_column_of_numbers_is_named_with_its_row(tmp_path: Path, case: str, size: int) -> None:
    name = "b" if case.endswith("target") else "a"
    frame = pd.DataFrame({"a": [1.0, NAN, 3.0] * 5, "b": np.arange(15.0), "c": "xyzzy"})
    frame[name] = frame[name].astype(object)
    frame.loc[11, name] = "n.b."
    frame.to_csv(tmp_path / "t.csv", index=False)
    recipe = Recipe(target="b", missing="mean", steps=TEXT_AMONG_NUMBERS[case])
    with pytest.raises(DataError) as caught:
        run(size, tmp_path / "t.csv", tmp_path / "t.h5", recipe)
    where = f"{tmp_path / 't.csv'}: column '{name}', data row 11 (the first is 0)"
    assert str(caught.value) == f"{where}: 'n.b.' is not a number; fill and clip take its values as numbers"
    assert not (tmp_path / "t.h5").exists()


def test_a_text_under_fill_ends_a_real_job_as_bad_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n,3\nlate,4\n5,6\n")
    (tmp_path / "recipe.yaml").write_text("fill: {a: 0}\ntarget: b\n")
    for n in (1, 2):
        argv = ["convert", tmp_path / "t.csv", tmp_path / "t.h5", "--recipe", tmp_path / "recipe.yaml"]
        ended = small.hpcml(*argv, "-n", str(n), check=3)
        assert "t.csv: column 'a', data row 2 (the first is 0): 'late' is not a number" in ended.stderr


def test_steps_that_do_not_fit_the_kind_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\nx,2\ny,3\n")
    for recipe in (
        Recipe(categorical=("a",), steps=Steps(fill={"a": 0.0})),
        Recipe(numeric=("b",), steps=Steps(cast={"a": "category"}, clip={"a": (0.0, 1.0)})),
        Recipe(numeric=("b",), steps=Steps(fill={"b": "none"})),
    ):
        with pytest.raises(SpecError):
            run(2, tmp_path / "t.csv", tmp_path / "t.h5", recipe)


def test_what_is_derived_may_be_clipped_though_the_table_has_texts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\nx,2\ny,3\n")
    steps = Steps(derive={"a": "b * 10"}, clip={"a": (None, 25.0)})
    run(2, tmp_path / "t.csv", tmp_path / "t.h5", Recipe(include=("a",), layout="dense", steps=steps))
    with h5py.File(tmp_path / "t.h5") as file:
        assert file["X"][:, 0].tolist() == [20.0, 25.0]


def test_a_sample_is_keyed_by_the_row(tmp_path: Path) -> None:
    source, _ = table(tmp_path)
    kept = []
    for steps in (Steps(fraction=0.4, seed=7), Steps(fraction=0.4, seed=7, filter=("dist > 1000",))):
        recipe = Recipe(numeric=("dist",), layout="dense", steps=steps)
        run(3, source, tmp_path / "t.h5", recipe)
        with h5py.File(tmp_path / "t.h5") as file:
            kept.append(file["X"][:, 0])
    assert 15 < kept[0].size < 50
    np.testing.assert_array_equal(kept[0][kept[0] > 1000], kept[1])


def test_equal_recipes_and_older_ones() -> None:
    steps = Steps(derive={"a": "b + 1", "c": "a"}, clip={"b": (None, 3)}, fill={"t": "x"}, fraction=0.5)
    recipe = Recipe(steps=steps, missing="drop", mapping={"u": 1}, target="t")
    again = Recipe.described(recipe.describe())
    assert again.describe() == recipe.describe()
    assert list(again.steps.derive) == ["a", "c"]
    assert "steps" not in Recipe().describe()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("filtr: [a > 1]", "recipe.yaml:1: filtr: unknown key; did you mean filter?"),
        ("clip: {a: [3, 1]}", "3 is not below 1"),
        ("clip: {a: 3}", "clip.a: .*two bounds"),
        ("cast: {a: text}", "cast.a: .*number, integer, boolean"),
        ("derive: {a: b +}", "a value is missing"),
        ("sample: {fraction: 2}", "sample"),
        ("sample: 0.5", "a fraction and a seed"),
        ("missing: mode", "missing"),
    ],
)
def test_bad_recipe_file(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text + "\n")
    with pytest.raises(SpecError, match=problem):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("how", ["median", "most_frequent"])
def test_fillings_as_scikit_learn(tmp_path: Path, how: Any) -> None:
    from sklearn.impute import SimpleImputer

    rng = np.random.default_rng(2)
    values = rng.integers(-4, 5, (61, 3)) * np.array([1.0, 0.25, 1e200])
    values[:, 1] = rng.normal(size=61)  # no two alike
    values[rng.random(values.shape) < 0.3] = NAN
    pd.DataFrame(values, columns=list("abc")).to_csv(tmp_path / "t.csv", index=False)
    recipe = Recipe(missing=how, layout="dense")
    for size in (1, 2, 3, 5, 90):
        run_threads(
            size,
            lambda c, n=size: convert(c, [tmp_path / "t.csv"], tmp_path / f"{n}.h5", recipe, lambda s: None),
        )
    assert len({file_digest(tmp_path / f"{size}.h5") for size in (1, 2, 3, 5, 90)}) == 1
    with h5py.File(tmp_path / "3.h5") as file:
        np.testing.assert_array_equal(file["X"][:], SimpleImputer(strategy=how).fit_transform(values))
