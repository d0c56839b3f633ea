"""Files in libsvm format and JSON lines, against scikit-learn's and Python's readers."""

from __future__ import annotations

import gzip
import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from hpcml.collectives import run_threads
from hpcml.errors import DataError, HpcmlError, SpecError
from hpcml.io.convert.conversion import convert
from hpcml.io.convert.recipe import Recipe
from hpcml.io.convert.steps import Steps
from hpcml.io.files import file_digest
from hpcml.io.tables import libsvm as tables_libsvm

SIZES = [1, 2, 3, 5, 40]


def run(size: int, sources: list[Path], destination: Path, recipe: Recipe) -> Any:
    return run_threads(size, lambda comm: convert(comm, sources, destination, recipe, lambda line: None))[0]


def contents(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path) as file:
        group = file["X"]
        if isinstance(group, h5py.Dataset):
            return group[:], file["y"][:]
        parts = tuple(group[name][:] for name in ("data", "indices", "indptr"))
        return sparse.csr_array(parts, shape=tuple(group.attrs["shape"])).toarray(), file["y"][:]


def converted(folder: Path, sources: list[Path], recipe: Recipe) -> Path:
    """Convert on several numbers of ranks to one and the same file."""
    for size in SIZES:
        run(size, sources, folder / f"{size}.h5", recipe)
    assert len({file_digest(folder / f"{size}.h5") for size in SIZES}) == 1
    return folder / "1.h5"


def said(folder: Path, source: Path, recipe: Recipe) -> str:
    """Return the sentence that every number of ranks fails with."""
    sentences = set()
    for size in (1, 2, 3, 5):
        with pytest.raises(HpcmlError) as caught:
            run(size, [source], folder / "out.h5", recipe)
        sentences.add(str(caught.value))
    assert len(sentences) == 1, sentences
    return sentences.pop()


def stored(path: Path, text: bytes) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.txt", text)
    else:
        path.write_bytes(text)
    return path


def matrix(n: int = 60, d: int = 9) -> tuple[sparse.csr_array, np.ndarray]:
    rng = np.random.default_rng(5)
    X = np.where(rng.random((n, d)) < 0.3, rng.normal(size=(n, d)) * 10.0 ** rng.integers(-9, 9, (n, d)), 0.0)
    X[0, [0, -1]] = 1.5, -2.5
    return sparse.csr_array(X), rng.choice([-1.0, 1.0], n)


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("name", ["t.svm", "t.libsvm.gz", "t.svmlight.zip"])
def test_libsvm_as_scikit_learn_reads_it(tmp_path: Path, name: str, zero_based: bool) -> None:
    X, y = matrix()
    out = BytesIO()
    dump_svmlight_file(X, y, out, zero_based=zero_based, comment="written\nby scikit-learn")
    path = stored(tmp_path / name, out.getvalue())
    expected, labels = load_svmlight_file(BytesIO(out.getvalue()), zero_based=zero_based)
    for layout in ("csr", "dense"):
        got, y_got = contents(converted(tmp_path, [path], Recipe(layout=layout)))
        np.testing.assert_array_equal(got, expected.toarray())
        np.testing.assert_array_equal(y_got, labels)


VALUES = st.sampled_from(["1", "-0.25", "1e-3", "7.125", "0"])
LINES = st.lists(
    st.tuples(
        st.sampled_from(["1", "-1", "+1", "0.5", "1e2"]),
        st.dictionaries(
            st.integers(1, 12), st.sampled_from(["1", "-0.25", "1e-3", "7.125", "0"]), max_size=5
        ),
        st.sampled_from(["", "  ", "\t", " # text: 1:2 # more"]),
        st.sampled_from(["\n", "\r\n", "\n\n", "\n# alone\n"]),
    ),
    min_size=1,
    max_size=12,
)


@given(LINES, st.booleans(), st.integers(1, 6), st.integers(8, 200))
@settings(max_examples=100)
def test_any_libsvm_text(
    tmp_path_factory: Any, lines: list[Any], ended: bool, size: int, run_bytes: int
) -> None:
    entries = [" ".join(f"{i}:{value}" for i, value in sorted(one.items())) for _, one, _, _ in lines]
    text = "".join(f"{row[0]} {entry}{row[2]}{row[3]}" for row, entry in zip(lines, entries, strict=True))
    text = text if ended else text.rstrip("\r\n")
    expected, labels = load_svmlight_file(BytesIO(text.encode()), n_features=12, zero_based=False)
    folder = tmp_path_factory.mktemp("libsvm")
    (folder / "t.svm").write_text(text, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables_libsvm, "_RUN_BYTES", run_bytes)
        recipe = Recipe(n_features=12, index_base="1", layout="dense")
        run(size, [folder / "t.svm"], folder / "t.h5", recipe)
    X, y = contents(folder / "t.h5")
    np.testing.assert_array_equal(X, expected.toarray())
    np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 1:2 1:3", "index 1 follows index 1"),
        ("1 2:1 1:4", "index 1 follows index 2"),
        ("1 qid:3 4:4", "query ids"),
        ("1 1:1 qid:3", "query ids"),
        ("a 1:2", "the label 'a' is not a number"),
        ("1,2 1:2", "the label '1,2' is not a number"),
        ("1 1:x", "the value 'x' is not a number"),
        ("1 1.5:2", "the index '1.5' is not a whole number"),
        ("1 1:", "nothing stands where index:value"),
        ("1 1: 2", "nothing stands where index:value"),
        ("1 :2", "nothing stands where index:value"),
        ("1 1", "'1' stands where index:value"),
        ("1 1:2:3", "'2' stands where index:value"),
        ("1:2 3:4", "'1' stands where the label"),
        ("1 -1:2", "index -1 is below 0"),
        ("1 1:nan", "missing or infinite"),
        ("inf 1:1", "missing or infinite"),
    ],
)
def test_bad_libsvm(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "t.svm"
    path.write_text("1 1:1\n" * 7 + line + "\n" + "1 1:1\n" * 3)
    sentence = said(tmp_path, path, Recipe())
    assert problem in sentence
    assert f"{path}: data row 7 " in sentence


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (Recipe(n_features=2), "index 3 occurs, and X is to have 2 columns"),
        (Recipe(index_base="1"), "index 0 occurs"),
        (Recipe(numeric=("a",)), "no named columns"),
        (Recipe(steps=Steps(filter=("a > 1",))), "no named columns"),
        (Recipe(target="label"), "called 'y'"),
        (Recipe(target="y", mapping={"1": 1.0}), "the label 2 is none of the mapping's"),
        (Recipe(dtype="float32"), "too large for float32"),
    ],
)
def test_libsvm_and_its_recipe(tmp_path: Path, recipe: Recipe, problem: str) -> None:
    path = tmp_path / "t.svm"
    path.write_text("1 0:1\n2 1:1e300 2:1\n1 3:1\n" if recipe.n_features else "1 0:1\n2 1:1e300\n")
    assert problem in said(tmp_path, path, recipe)


def test_labels_and_a_sample_of_libsvm(tmp_path: Path) -> None:
    path = tmp_path / "t.svm"
    path.write_text("".join(f"{i % 3} 1:{i}\n" for i in range(200)))
    recipe = Recipe(target="y", mapping={"0": 5, "1": 6, "2.0": 7}, steps=Steps(fraction=0.5, seed=3))
    X, y = contents(converted(tmp_path, [path], recipe))
    assert 60 < len(X) < 140
    np.testing.assert_array_equal(y, X[:, 0] % 3 + 5)


def test_formats_that_stand_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.svm").write_text("1 1:1\n")
    with pytest.raises(DataError, match="cannot be joined with libsvm"):
        run(2, [tmp_path / "a.csv", tmp_path / "b.svm"], tmp_path / "t.h5", Recipe())


TEXTS = st.sampled_from(["x", "é\n", '"', "2020-01-01", "2020-01-01 10:00:00"])
OBJECTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.one_of(st.none(), st.integers(-(2**40), 2**40), st.floats(-1e300, 1e300)),
            "b": st.one_of(
                st.none(), st.sampled_from(["x", "é\n", '"', "2020-01-01", "2020-01-01 10:00:00"])
            ),
            "c": st.booleans(),
        },
    ),
    min_size=1,
    max_size=15,
)


@given(OBJECTS, st.integers(1, 6), st.sampled_from(["\n", "\r\n", "\n\n"]))
@settings(max_examples=100)
def test_json_lines_as_python_reads_them(tmp_path_factory: Any, rows: list[Any], size: int, end: str) -> None:
    rows = [{"a": 1.5, "b": "x"}, *rows, {"c": True}]
    folder = tmp_path_factory.mktemp("json")
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + end for row in rows), newline="")
    run(size, [folder / "t.jsonl"], folder / "t.h5", Recipe(missing="indicator", layout="dense"))
    texts = sorted({row["b"] for row in rows if row.get("b") is not None})
    names = ["a", "a (missing)", *(f"b={text}" for text in texts), "b=(missing)", "c", "c (missing)"]
    expected = [
        [
            float(row.get("a") or 0),
            row.get("a") is None,
            *(row.get("b") == text for text in texts),
            row.get("b") is None,
            row.get("c", False),
            "c" not in row,
        ]
        for row in rows
    ]
    with h5py.File(folder / "t.h5") as file:
        assert list(file["feature_names"].asstr()) == names
        np.testing.assert_array_equal(file["X"][:], np.array(expected, float))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a":[3]}', "data row 2 .* has a list or an object as 'a'"),
        ('{"a":1,"b":{"c":1}}', "data row 2 .* has a list or an object as 'b'"),
        ('{"a":3,}', "data row 2 .* has no JSON object"),
        ('{"a":\n3}', "data row 2 .* has no JSON object"),
        ('{"a":3} {"a":4}', "data row 2 .* has no JSON object"),
        ("3", "data row 2 .* has no JSON object"),
        ('{"a":1,"a":2}', "data row 2 .* has the key 'a' twice"),
        ('{"a":"text"}', "the key 'a' has values of different kinds: number, text"),
        ('{"a":true}', "the key 'a' has values of different kinds: bool, number"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"a":1}}\n\n{{"a":2}}\n{line}\n{{"a":5}}\n{{"a":6}}\n')
    with pytest.raises(DataError, match=problem):
        raise DataError(said(tmp_path, path, Recipe()))


def test_absent_columns_are_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"dist":1}\n{"dist":2}\n')
    assert "did you mean 'dist'?" in said(tmp_path, tmp_path / "t.jsonl", Recipe(numeric=("dits",)))
    with pytest.raises(SpecError, match="did you mean 'dist'"):
        run(2, [tmp_path / "t.jsonl"], tmp_path / "t.h5", Recipe(steps=Steps(filter=("dits > 1",))))
