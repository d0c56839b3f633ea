"""Conversion of tables: what comes out, for any number of ranks, and what bad input says."""

from __future__ import annotations

import csv
import errno
import fcntl
import gzip
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse

from hpcml.collectives import Communicator, CountingCommunicator, SerialCommunicator, run_threads
from hpcml.errors import DataError, HpcmlError, OutputError
from hpcml.io.convert import fill as convert_fill
from hpcml.io.convert import write as convert_write
from hpcml.io.convert.conversion import ConvertReport, convert, is_current
from hpcml.io.convert.recipe import Recipe
from hpcml.io.files import file_digest
from hpcml.io.tables import columns as tables_columns

HEADER = ["dist", "carrier", "flag", "label"]
SIZES = [1, 2, 3, 5]


def rows(n: int = 40) -> list[list[str]]:
    """Rows with missing values, quotes and line ends inside fields."""
    names = ["UA", 'A"A', "D\nL", "", "é,"]
    return [
        [
            str(i * 0.7 - 3) if i % 7 else "",
            names[i % 5],
            "true" if i % 3 else "false",
            "yes" if i % 4 else "no",
        ]
        for i in range(n)
    ]


def write_csv(path: Path, table: list[list[str]], header: list[str] = HEADER) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *table])
    path.write_bytes(text.getvalue().encode())
    return path


def run(size: int, sources: list[Path], destination: Path, recipe: Recipe) -> ConvertReport:
    reports = run_threads(size, lambda comm: convert(comm, sources, destination, recipe, lambda line: None))
    assert all(report == reports[0] for report in reports)
    return reports[0]


def contents(path: Path, x: str = "X", y: str = "y") -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    with h5py.File(path) as file:
        if isinstance(file[x], h5py.Group):
            parts = [file[x][name][:] for name in ("data", "indices", "indptr")]
            X = sparse.csr_array(tuple(parts), shape=tuple(file[x].attrs["shape"])).toarray()
        else:
            X = file[x][:]
        return X, file[y][:] if y in file else None, list(file["feature_names"].asstr())


def expected(table: list[list[str]], missing: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The slow way: columns dist (numeric), carrier (categorical), flag (bool), label yes/no."""
    if missing == "drop":
        table = [row for row in table if all(row)]
    vocabulary = sorted({row[1] for row in table} - {""})
    mean = np.mean([float(row[0]) for row in table if row[0]])
    out = []
    for dist, carrier, flag, _ in table:
        one_hot = [float(carrier == name) for name in vocabulary]
        fill = {"mean": mean, "indicator": 0.0}.get(missing, np.nan)
        number = [float(dist) if dist else fill]
        if missing == "indicator":
            number, one_hot = [*number, float(not dist)], [*one_hot, float(not carrier)]
        out.append([*number, *one_hot, float(flag == "true"), *([0.0] if missing == "indicator" else [])])
    lost = [" (missing)"] if missing == "indicator" else []
    names = ["dist", *("dist" + s for s in lost), *(f"carrier={name}" for name in vocabulary)]
    names += [*(["carrier=(missing)"] if lost else []), "flag", *("flag" + s for s in lost)]
    return np.array(out), np.array([float(row[3] == "yes") for row in table]), names


@pytest.mark.parametrize("missing", ["drop", "mean", "indicator"])
@pytest.mark.parametrize("layout", ["dense", "csr", "auto"])
def test_rows_for_any_number_of_ranks(tmp_path: Path, missing: str, layout: str) -> None:
    table = rows()
    source = write_csv(tmp_path / "t.csv", table)
    recipe = Recipe(target="label", missing=missing, layout=layout)
    reports = [run(size, [source], tmp_path / f"{size}.h5", recipe) for size in [*SIZES, 60]]
    assert len({report.digest for report in reports}) == 1
    assert len({file_digest(report.path) for report in reports}) == 1, "the files are the same to the byte"
    X, y, names = expected(table, missing)
    got_X, got_y, got_names = contents(reports[0].path)
    assert got_names == names
    np.testing.assert_allclose(got_X, X, rtol=1e-15)
    np.testing.assert_array_equal(got_y, y)
    assert reports[0].classes == ["no", "yes"]
    assert (reports[0].n_read, reports[0].n_samples) == (40, len(X))
    assert sorted(os.listdir(tmp_path)) == sorted([*(f"{size}.h5" for size in [*SIZES, 60]), "t.csv"])


def test_mean_has_the_same_bits_over_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_fill, "_SUM_ROWS", 7)
    monkeypatch.setattr(convert_fill, "_MEAN_ROWS", 2)
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    source = write_csv(tmp_path / "t.csv", [[repr(float(v)), "1"] for v in values] + [["", "2"]], ["a", "b"])
    recipe = Recipe(missing="mean", layout="dense")
    reports = [run(size, [source], tmp_path / f"{size}.h5", recipe) for size in SIZES]
    assert len({report.digest for report in reports}) == 1
    assert contents(reports[0].path)[0][-1, 0] == pytest.approx(values.mean(), rel=1e-15)


def test_units_smaller_than_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of rows, digest units and ranks cut the data in different places."""
    monkeypatch.setattr(convert_write, "_UNIT_BYTES", 56)
    monkeypatch.setattr(convert_write, "_ROWS_BYTES", 150)
    source = write_csv(tmp_path / "t.csv", rows())
    for layout in ("dense", "csr"):
        recipe = Recipe(target="label", missing="drop", layout=layout, dtype="float32")
        digests = {run(size, [source], tmp_path / f"{layout}{size}.h5", recipe).digest for size in SIZES}
        assert len(digests) == 1
        X, y, _ = contents(tmp_path / f"{layout}5.h5")
        np.testing.assert_array_equal(X, expected(rows(), "drop")[0].astype(np.float32))
        np.testing.assert_array_equal(y, expected(rows(), "drop")[1])


def stored_as(kind: str, folder: Path, table: list[list[str]]) -> Path:
    """Store the same table in another format."""
    path = write_csv(folder / "t.csv", table)
    if kind == "csv":
        return path
    if kind == "csv.gz":
        (folder / "t.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    elif kind == "csv.zip":
        shutil.make_archive(str(folder / "t.csv"), "zip", folder, "t.csv")
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        dist, carrier, flag, label = zip(*table, strict=True)
        columns = [
            pa.array([float(v) if v else None for v in dist]),
            pa.array([v or None for v in carrier]),
            pa.array([v == "true" for v in flag]),
            pa.array(label),
        ]
        pq.write_table(pa.table(columns, names=HEADER), folder / "t.parquet", row_group_size=7)
    else:
        dtype = [("dist", "f8"), ("carrier", "U8"), ("flag", "?"), ("label", "U8")]
        records = [(float(d) if d else np.nan, c, f == "true", v) for d, c, f, v in table]
        np.save(folder / "t.npy", np.array(records, dtype=dtype))
    path.unlink()
    return folder / f"t.{kind}"


@pytest.mark.parametrize("missing", ["drop", "mean", "indicator"])
def test_formats_agree(tmp_path: Path, missing: str) -> None:
    digests = set()
    for kind in ("csv", "csv.gz", "csv.zip", "parquet", "npy"):
        source = stored_as(kind, tmp_path, rows())
        for size in (1, 3):
            recipe = Recipe(target="label", missing=missing)
            digests.add(run(size, [source], tmp_path / f"{kind}{size}.h5", recipe).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "npy"])
def test_several_files_are_one_table(tmp_path: Path, kind: str) -> None:
    table = rows()
    files = []
    for i, (a, b) in enumerate([(0, 3), (3, 25), (25, 25), (25, 40)]):
        (tmp_path / str(i)).mkdir()
        if a < b:
            files.append(stored_as(kind, tmp_path / str(i), table[a:b]))
    recipe = Recipe(target="label", missing="drop")
    whole = run(1, [stored_as("csv", tmp_path, table)], tmp_path / "whole.h5", recipe)
    for size in SIZES:
        assert run(size, files, tmp_path / f"{size}.h5", recipe).digest == whole.digest


def test_plain_array(tmp_path: Path) -> None:
    array = np.arange(30.0).reshape(10, 3)
    np.save(tmp_path / "a.npy", array)
    report = run(
        4, [tmp_path / "a.npy"], tmp_path / "a.h5", Recipe(target="x1", threshold=15.0, y="over/label")
    )
    X, y, names = contents(report.path, y="over/label")
    np.testing.assert_array_equal(X, array[:, [0, 2]])
    np.testing.assert_array_equal(y, array[:, 1] > 15)
    assert names == ["x0", "x2"]


def test_npy_needs_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables_columns.pyarrow.cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    np.save(tmp_path / "a.npy", np.ones((4, 2)))
    assert run(2, [tmp_path / "a.npy"], tmp_path / "a.h5", Recipe()).n_samples == 4
    with pytest.raises(DataError, match=r"pip install 'hpcml\[parquet\]'"):
        run(2, [write_csv(tmp_path / "t.csv", rows())], tmp_path / "t.h5", Recipe())


ROLES = [
    (Recipe(numeric=("dist",), missing="mean"), ["dist"]),
    (Recipe(categorical=("flag",)), ["flag=false", "flag=true"]),
    (Recipe(include=("flag", "label")), ["flag", "label=no", "label=yes"]),
    (Recipe(exclude=("dist", "carrier"), target="label"), ["flag"]),
    (Recipe(numeric=("flag", "label"), target="label"), ["flag"]),
    (Recipe(categorical=("label",), numeric=("flag",)), ["flag", "label=no", "label=yes"]),
]


@pytest.mark.parametrize(("recipe", "names"), ROLES)
def test_roles(tmp_path: Path, recipe: Recipe, names: list[str]) -> None:
    run(3, [write_csv(tmp_path / "t.csv", rows())], tmp_path / "t.h5", recipe)
    assert contents(tmp_path / "t.h5")[2] == names


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_kind_is_agreed_over_ranks(tmp_path: Path, size: int) -> None:
    """Numbers in all but the last row: a column of texts on every rank, written as they stand in the file."""
    table = [[f"0{i % 3}", "1"] for i in range(30)] + [["x", "1"]]
    run(size, [write_csv(tmp_path / "t.csv", table, ["a", "b"])], tmp_path / "t.h5", Recipe())
    assert contents(tmp_path / "t.h5")[2] == ["a=00", "a=01", "a=02", "a=x", "b"]


def test_mapping_and_number_targets(tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "t.csv", [["1", "a", "2.5"], ["2", "b", "-1"], ["3", "a", "0"]], ["x", "l", "v"]
    )
    run(3, [source], tmp_path / "m.h5", Recipe(numeric=("x",), target="l", mapping={"a": -1, "b": 4, "c": 0}))
    run(3, [source], tmp_path / "v.h5", Recipe(numeric=("x",), target="v"))
    np.testing.assert_array_equal(contents(tmp_path / "m.h5")[1], [-1.0, 4.0, -1.0])
    np.testing.assert_array_equal(contents(tmp_path / "v.h5")[1], [2.5, -1.0, 0.0])


def test_what_the_file_says(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    recipe = Recipe(target="label", missing="mean", layout="csr")
    report = run(3, [source], tmp_path / "deep" / "er" / "t.h5", recipe)
    with h5py.File(report.path) as file:
        assert file.attrs["hpcml_format"] == 1
        assert json.loads(file.attrs["hpcml_recipe"]) == recipe.describe()
        (stored,) = json.loads(file.attrs["hpcml_sources"])
        assert stored == {"name": "t.csv", "size": source.stat().st_size, "sha256": file_digest(source)}
        assert file.attrs["hpcml_digest"].decode() == report.digest
        assert list(file.attrs["classes"]) == ["no", "yes"]
        assert json.loads(file.attrs["hpcml_columns"])[1]["vocabulary"] == ['A"A', "D\nL", "UA", "é,"]
        assert file["X/indices"].dtype == np.int32 and file["X/indptr"].dtype == np.int64
        assert file["X/data"].chunks is None and file["X/data"].id.get_offset() is not None
        assert file["y"].dtype == np.float64


def two_files(folder: Path, first: bytes, second: bytes) -> None:
    (folder / "1.csv").write_bytes(first)
    (folder / "2.csv").write_bytes(second)


# name: (text of t.csv or a maker of files, options of the recipe, what the sentence says)
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "empty file": (b"", {}, "empty"),
    "blank lines": (b"\n\n", {}, "empty"),
    "header only": (b"a,b\n", {}, "the table has no rows"),
    "two columns of a name": (b"a,a\n1,2\n", {}, "two columns named 'a'"),
    "absent column": (b"a,b\n1,2\n", {"numeric": ("c",)}, "no column 'c'; the table has a, b"),
    "absent target": (b"a,b\n1,2\n", {"target": "c"}, "no column 'c'"),
    "absent excluded column": (b"a,b\n1,2\n", {"exclude": ("c",)}, "no column 'c'"),
    "no feature": (b"a\n1\n", {"target": "a"}, "no column is left"),
    "text in a number": (b"a,b\n" + b"1,2\n" * 9 + b"zz,2\nyy,2\n", {"numeric": ("a",)}, "row 9 .*'zz'"),
    "text and bool": (b"a,b\ntrue,2\nfalse,1\n7,1\n", {"numeric": ("a",)}, "row 0 .*'true' is not a number"),
    "infinite": (b"a,b\n1,2\n3,inf\n", {}, "column 'b', data row 1 .*infinite"),
    "too large for float32": (b"a,b\n1,2\n3,1e300\n", {"dtype": "float32"}, "'b' is too large for float32"),
    "missing number": (b"a,b\n1,2\n3,\n,1\n", {}, "column 'b', data row 1 .*missing"),
    "missing text": (b"a,b\nx,2\n,3\n", {}, "column 'a', data row 1 .*missing"),
    "missing target": (b"a,b\n1,2\n2,\n", {"target": "b", "missing": "mean"}, "'b', data row 1 .*target"),
    "nothing left": (b"a,b\n1,\n,2\n", {"missing": "drop"}, "every row lacks a value"),
    "no mean": (b"a,b\n,1\n,2\n", {"numeric": ("a",), "missing": "mean"}, "'a' has no value whose mean"),
    "ragged row": (b"a,b\n1,2\n3,4\n5\n6,7\n", {}, "data row 2 .*has 1 fields where 2 are expected: '5'"),
    "ragged row late": (b"a,b\n" + b"1,2\n" * 50 + b"1,2,3\n", {}, "data row 50 .*has 3 fields"),
    "not UTF-8": (b"a,b\n1,\xff\xfe\n", {"categorical": ("b",)}, "UTF-8"),
    "header not UTF-8": (b"a,\xff\n1,2\n", {}, "UTF-8"),
    "open quote": (b'a,b\n1,"2\n3,4\n', {}, "quoted field has no end"),
    "unknown label": (b"a,b\n1,x\n2,y\n", {"target": "b", "mapping": {"x": 1.0}}, "'b', data row 1 .*'y'"),
    "one label": (b"a,b\n1,x\n2,x\n", {"target": "b"}, "'b' must have 2 to 4000 different texts; it has 'x'"),
    "text under a threshold": (b"a,b\n1,x\n", {"target": "b", "threshold": 1.0}, "'x' is not a number"),
    "unknown suffix": (("t.dat", b"a\n1\n"), {}, "set data.format"),
    "not gzip": (("t.csv.gz", b"a,b\n1,2\n"), {}, "damaged"),
    "cut gzip": (("t.csv.gz", gzip.compress(b"a,b\n" + os.urandom(999))[:500]), {}, "ends too early"),
    "flipped gzip": (("t.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-8] + b"\0" * 8), {}, "damaged"),
    "not zip": (("t.csv.zip", b"a,b\n1,2\n"), {}, "damaged"),
    "not npy": (("t.npy", b"a,b\n1,2\n"), {}, "t.npy"),
    "not parquet": (("t.parquet", b"a,b\n1,2\n"), {}, "t.parquet"),
    "pickled npy": (lambda d: np.save(d / "t.npy", np.array([[{}]], object)), {}, "t.npy"),
    "cube": (lambda d: np.save(d / "t.npy", np.ones((2, 2, 2))), {}, "two-dimensional or a structured"),
    "complex": (lambda d: np.save(d / "t.npy", np.ones((2, 2), complex)), {}, "neither numbers nor text"),
    "no rows in npy": (lambda d: np.save(d / "t.npy", np.ones((0, 2))), {}, "no rows"),
    "other columns": (lambda d: two_files(d, b"a,b\n1,2\n", b"a,c\n1,2\n"), {}, "2.csv .*differ .*: b, c"),
    "absent file": (lambda d: (d / "t.csv").symlink_to(d / "none"), {}, "cannot read"),
}  # fmt: skip


def make_bad(folder: Path, made: Any) -> list[Path]:
    if callable(made):
        made(folder)
    else:
        name, text = made if isinstance(made, tuple) else ("t.csv", made)
        (folder / name).write_bytes(text)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path: Path, case: str, size: int) -> None:
    made, options, said = BAD[case]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    sources = make_bad(tmp_path / "in", made)

    def program(comm: Communicator) -> tuple[str, str]:
        with pytest.raises(HpcmlError) as caught:
            convert(comm, sources, tmp_path / "out" / "t.h5", Recipe(**options), lambda line: None)
        return type(caught.value).__name__, str(caught.value)

    said_by = run_threads(size, program, timeout=20)
    assert len(set(said_by)) == 1, "all ranks raise the same error"
    assert said_by[0][0] == "DataError"
    with pytest.raises(DataError, match=said):
        raise DataError(said_by[0][1])
    assert "\n" not in said_by[0][1]
    assert os.listdir(tmp_path / "out") == []


def test_no_source() -> None:
    with pytest.raises(DataError, match="no source"):
        convert(SerialCommunicator(), [], Path("none.h5"), Recipe(), lambda line: None)


def full(*args: Any) -> int:
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "ftruncate", "fsync", "replace"])
@pytest.mark.parametrize("older", [False, True])
def test_no_space_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, older: bool
) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    destination = tmp_path / "t.h5"
    if older:
        run(1, [source], destination, Recipe(missing="indicator"))
    before = destination.read_bytes() if older else None
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="no space left"):
        run(3, [source], destination, Recipe(missing="drop"))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == (["t.csv", "t.h5"] if older else ["t.csv"])
    assert before is None or destination.read_bytes() == before
    assert run(3, [source], destination, Recipe(missing="drop")).converted


def test_no_space_on_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = convert_write._write_rows

    def fail(file: Any, coded: Any, recipe: Any, *, first: bool) -> None:
        if any(one.start > 20 for one in coded.runs):
            full()
        write(file, coded, recipe, first=first)

    monkeypatch.setattr(convert_write, "_write_rows", fail)
    with pytest.raises(OutputError, match="no space left"):
        run(3, [write_csv(tmp_path / "t.csv", rows())], tmp_path / "t.h5", Recipe(missing="mean"))
    assert os.listdir(tmp_path) == ["t.csv"]


def test_no_place_for_the_file(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    with pytest.raises(OutputError, match="cannot write"):
        run(3, [source], source / "t.h5", Recipe(missing="drop"))


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    before = source.read_bytes()
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["X"] = np.ones(3)
    for path in (source, tmp_path / "mine.h5"):
        with pytest.raises(OutputError, match="not a conversion of tables"):
            run(2, [source], path, Recipe(missing="drop"))
    assert source.read_bytes() == before


def test_is_current(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    destination, recipe = tmp_path / "t.h5", Recipe(target="label", missing="drop")
    assert not is_current(destination, recipe, [source])
    made = run(2, [source], destination, recipe)
    again = run(3, [source], destination, recipe)
    assert made.converted and not again.converted
    assert (again.digest, again.n_read, again.classes) == (made.digest, 40, ["no", "yes"])
    (tmp_path / "again").mkdir()
    copy = Path(shutil.copyfile(source, tmp_path / "again" / "t.csv"))
    assert is_current(destination, recipe, [copy]), "another download of the same bytes"
    assert not is_current(destination, Recipe(target="label", missing="mean"), [source])
    assert not is_current(destination, recipe, [source, copy])
    copy.write_bytes(source.read_bytes().replace(b"yes", b"yep"))
    assert not is_current(destination, recipe, [copy])
    assert run(2, [copy], destination, recipe).classes == ["no", "yep"]


def test_only_one_converts(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    reports: list[ConvertReport] = []
    work = [
        threading.Thread(
            target=lambda: reports.append(run(2, [source], tmp_path / "t.h5", Recipe(missing="drop")))
        )
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sorted(report.converted for report in reports) == [False, False, False, True]
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "t.h5"]


def test_a_held_lock_is_waited_for_and_a_dead_one_is_not(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    lock = tmp_path / "t.h5.lock"
    (tmp_path / ".t.h5.1.part").write_bytes(b"of a process that was killed")
    holder = open(lock, "w")  # noqa: SIM115 - closed when the conversion waits
    fcntl.flock(holder, fcntl.LOCK_EX)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "waiting" in line:
            holder.close()  # as the kernel does at a process's death: the file stays

    recipe = Recipe(missing="drop")
    run_threads(3, lambda comm: convert(comm, [source], tmp_path / "t.h5", recipe, say), timeout=20)
    assert [lines[0].split()[0], lines[-1].split()[0]] == ["waiting", "wrote"]
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "t.h5"]


def test_a_lock_whose_file_was_removed_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last holder removed the file after this process opened it, and a third made a new one."""
    source, flock, calls = write_csv(tmp_path / "t.csv", rows()), fcntl.flock, []

    def late(handle: int, how: int) -> None:
        flock(handle, how)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / "t.h5.lock").unlink()
            (tmp_path / "t.h5.lock").touch()

    monkeypatch.setattr(fcntl, "flock", late)
    assert run(2, [source], tmp_path / "t.h5", Recipe(missing="drop")).converted
    assert len(calls) == 2


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert run(
        2, [write_csv(tmp_path / "t.csv", rows())], tmp_path / "t.h5", Recipe(missing="drop")
    ).converted
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "t.h5"]


def messages(folder: Path, n: int) -> int:
    source = write_csv(folder / f"{n}.csv", rows(n))

    def program(comm: Communicator) -> int:
        counting = CountingCommunicator(comm)
        convert(
            counting, [source], folder / f"{n}.h5", Recipe(target="label", missing="mean"), lambda line: None
        )
        return sum(counting.calls.values())

    return run_threads(3, program)[0]


def test_messages_do_not_grow_with_the_rows(tmp_path: Path) -> None:
    assert messages(tmp_path, 20) == messages(tmp_path, 2000) == 40


PROGRAM = """
    import sys
    from pathlib import Path
    from hpcml.collectives import world
    from hpcml.errors import HpcmlError
    from hpcml.io.convert.conversion import convert
    from hpcml.io.convert.recipe import Recipe

    comm = world()
    if len(sys.argv) > 3:  # now, for MPI's own shared memory is files too
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    try:
        recipe = Recipe(target="label", missing="mean")
        report = convert(comm, [sys.argv[1]], Path(sys.argv[2]), recipe, lambda line: None)
    except HpcmlError as error:
        print(type(error).__name__, error)
        sys.exit(0)
    print(report.digest)
"""


def test_under_mpiexec(tmp_path: Path, spmd: Callable[..., Any]) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    serial = run(1, [source], tmp_path / "1.h5", Recipe(target="label", missing="mean"))
    job = spmd(3, PROGRAM, source, tmp_path / "3.h5", check=0)
    assert job.lines == [serial.digest] * 3
    assert file_digest(tmp_path / "3.h5") == file_digest(tmp_path / "1.h5")


@pytest.mark.parametrize("limit", [100, 3000, 10_000, 1_000_000])
def test_a_real_limit_crashes_nothing(tmp_path: Path, spmd: Callable[..., Any], limit: int) -> None:
    source = write_csv(tmp_path / "t.csv", rows())
    job = spmd(2, PROGRAM, source, tmp_path / "out" / "t.h5", str(limit), check=0)
    assert [line.split()[0] for line in job.lines] == ["OutputError", "OutputError"]
    assert "limit allows" in job.stdout
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("size", SIZES)
def test_rows_without_a_header(tmp_path, size):
    """Numbers, some of them twice, are no names; each distinct, they are, as ever."""
    numbers = np.random.default_rng(0).integers(0, 5, (50, 6))
    numbers[0] = [0, 0, 3, 1, 3, 2]
    path = write_csv(tmp_path / "t.csv", numbers[1:].astype(str).tolist(), numbers[0].astype(str).tolist())
    run(size, [path], tmp_path / "t.h5", Recipe(target="x5"))
    with h5py.File(tmp_path / "t.h5") as file:
        assert np.array_equal(file["X"][()], numbers[:, :5])
        assert np.array_equal(file["y"][()], numbers[:, 5])
    named = write_csv(tmp_path / "named.csv", [["0", "0"], ["1", "2"]], ["x0", "x1"])
    years = write_csv(tmp_path / "years.csv", [["0", "0"], ["1", "2"]], ["2013", "2014"])
    for path, target in ((named, "x1"), (years, "2014")):
        assert run(size, [path], tmp_path / f"{path.stem}.h5", Recipe(target=target)).n_samples == 2


def test_a_row_of_another_length_where_there_is_no_header(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"1,1,2\n3,4,5\n6,7\n")
    with pytest.raises(DataError, match="row 2"):
        run(1, [tmp_path / "t.csv"], tmp_path / "t.h5", Recipe(target="x2"))
