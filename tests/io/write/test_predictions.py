"""Files of predictions: plain or in parts, complete or absent, the same for any number of ranks."""

from __future__ import annotations

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import small

from hpcml.collectives import run_threads
from hpcml.errors import DataError, OutputError
from hpcml.io.write import predictions
from hpcml.io.write.predictions import parts_directory, write_predictions
from hpcml.io.write.predictions_read import check_predictions, read_predictions

N = 1000
SIZES = (1, 2, 3, 5, 40)
ROW_BYTES = 8 + 8 + 24


def table(n=N):
    rng = np.random.default_rng(5)
    return {
        "row": np.arange(n),
        "prediction": rng.normal(size=n),
        "probabilities": rng.random((n, 3)),
    }


def taken(columns, start, stop):
    return {name: array[start:stop] for name, array in columns.items()}


def some_at_a_time(comm, columns, step=17):
    """This rank's rows, a few at a time; some ranks of many have none, and some pieces are empty."""
    n = len(columns["row"])
    start, stop = (n * border // comm.size // 50 * 50 for border in (comm.rank, comm.rank + 1))
    stop = n if comm.rank == comm.size - 1 else stop
    for first in range(start, stop, step):
        yield taken(columns, first, min(first + step, stop))
        yield taken(columns, 0, 0)


def write(path, size=1, columns=None, spoil=None, about=None):
    columns = columns or table()

    def program(comm):
        rows = some_at_a_time(comm, columns)
        if spoil:
            rows = spoil(comm, rows)
        n = len(columns["row"])
        write_predictions(comm, path, rows, taken(columns, 0, 0), n, about or {"data": "d"})

    run_threads(size, program)


@pytest.fixture
def in_parts(monkeypatch):
    """Files of more than one row are in parts of 100 rows."""
    monkeypatch.setattr(predictions, "PLAIN_BYTES", 2 * ROW_BYTES)
    monkeypatch.setattr(predictions, "PART_BYTES", 100 * ROW_BYTES)


def same(found, expected):
    assert list(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def plainly(path):
    with h5py.File(path) as file:
        return {name: item[()] for name, item in file.items()}


def tokens(path):
    return [folder.name for folder in parts_directory(path).iterdir()]


def test_a_plain_file_is_the_same_to_the_byte(tmp_path):
    for size in SIZES:
        write(tmp_path / f"{size}.h5", size)
        same(plainly(tmp_path / f"{size}.h5"), table())
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    found = read_predictions(tmp_path / "1.h5")
    same(found.columns, table())
    assert found.about == {"data": "d"} and not list(tmp_path.glob("*.parts"))
    same(read_predictions(tmp_path / "1.h5", -70, -30).columns, taken(table(), 930, 970))


@pytest.mark.parametrize("size", SIZES)
def test_parts_give_the_same_data(tmp_path, in_parts, size):
    path = tmp_path / "50%b.h5"  # %b would be a number to HDF5
    write(path, size)
    same(plainly(path), table())
    with h5py.File(path) as file:
        assert all(item.is_virtual for item in file.values())
    found = read_predictions(path)
    same(found.columns, table())
    assert found.about["data"] == "d"
    (folder,) = parts_directory(path).iterdir()
    parts = json.loads((folder / "manifest.json").read_text())["parts"]
    assert sorted(os.listdir(folder)) == sorted(["manifest.json", *(part["file"] for part in parts)])
    assert sum(part["rows"] for part in parts) == N
    assert len(parts) == {1: 10, 2: 10, 3: 11, 5: 10, 40: 20}[size]
    for part in parts:
        assert len(plainly(folder / part["file"])["row"]) == part["rows"] <= 100


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 100), (99, 101), (250, 900), (990, None), (-5, None), (7, 7)]
)
def test_some_rows(tmp_path, in_parts, start, stop):
    write(tmp_path / "p.h5", 3)
    same(read_predictions(tmp_path / "p.h5", start, stop).columns, taken(table(), start, stop))


def test_the_directory_goes_with_the_file(tmp_path, in_parts, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    write(home / "p.h5", 2)
    home.rename(other)
    monkeypatch.chdir(tmp_path)
    same(plainly(other / "p.h5"), table())
    same(read_predictions(other / "p.h5").columns, table())


@pytest.mark.parametrize("what", ["missing", "another", "flipped", "no manifest", "other manifest"])
def test_what_is_not_whole_is_refused(tmp_path, in_parts, what):
    path = tmp_path / "p.h5"
    write(path)
    (folder,) = parts_directory(path).iterdir()
    part, manifest = folder / "part-00000-00003.h5", folder / "manifest.json"
    if what == "missing":
        part.unlink()
        assert np.isnan(plainly(path)["prediction"][300:400]).all()  # seen even where nobody checks
        assert (plainly(path)["row"][300:400] == -1).all()
    elif what == "another":
        shutil.copy(folder / "part-00000-00004.h5", part)
    elif what == "flipped":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    elif what == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text().replace("00003", "00004"))
    named = manifest if "manifest" in what else part
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert str(named) in str(caught.value)
    with pytest.raises(DataError):
        check_predictions(path)
    if named is part:
        same(read_predictions(path, 400).columns, taken(table(), 400, None))
        with pytest.raises(DataError):
            read_predictions(path, 399)


def test_other_files_are_refused(tmp_path):
    path = small.make_rows(tmp_path / "rows.h5")
    with pytest.raises(DataError, match="is not a file of predictions"):
        read_predictions(path)


def test_writing_again(tmp_path, in_parts, monkeypatch):
    path = tmp_path / "p.h5"
    write(path, 2)
    first = tokens(path)
    more = {name: array + 1 for name, array in table().items()}
    seen = []

    def spoil(comm, rows):
        yield from rows
        seen.append(plainly(path)["row"].copy())  # the new parts are there, the old file is whole

    write(path, 2, more, spoil)
    assert all(np.array_equal(rows, np.arange(N)) for rows in seen) and len(seen) == 2
    same(plainly(path), more)
    assert len(tokens(path)) == 1 and tokens(path) != first
    monkeypatch.undo()
    write(path, 2)
    same(plainly(path), table())
    assert not parts_directory(path).exists()


def test_parts_that_another_job_removed_are_missed(tmp_path, in_parts):
    path = tmp_path / "p.h5"

    def spoil(comm, rows):
        yield from rows
        predictions.remove_parts(path)  # as the end of another writing of the same file does

    with pytest.raises(OutputError, match="another job writes the same file"):
        write(path, 1, spoil=spoil)
    assert not list(tmp_path.iterdir())


def test_what_is_not_ours_stays(tmp_path, in_parts):
    path = tmp_path / "p.h5"
    folder = parts_directory(path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    for name in ("mine", "0123456789abcdef"):
        (folder / name).mkdir(parents=True)
    (folder / "fedcba9876543210").symlink_to(tmp_path / "precious")
    write(path)
    assert {"mine", "fedcba9876543210"} < set(tokens(path)) and "0123456789abcdef" not in tokens(path)
    assert (tmp_path / "precious" / "file").read_text() == "mine"
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "precious")
    predictions.remove_parts(path)
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("kind", [DataError, OutputError])
def test_a_failure_leaves_what_was_there(tmp_path, request, old, parts, kind):
    if parts:
        request.getfixturevalue("in_parts")
    path = tmp_path / "p.h5"
    if old:
        write(path, 2)
    before = small.everything(tmp_path)

    def spoil(comm, rows):
        for i, some in enumerate(rows):
            if comm.rank == 1 and i == 15:
                raise kind("row 300 is bad")
            yield some

    with pytest.raises(kind, match="row 300 is bad") as caught:
        write(path, 3, {name: array + 1 for name, array in table().items()}, spoil)
    assert caught.value.on_all_ranks
    assert small.everything(tmp_path) == before
    assert old or not list(tmp_path.iterdir())


PROGRAM = """
    import os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from hpcml.collectives import world
    from hpcml.errors import OutputError
    from hpcml.io.write import predictions
    predictions.PLAIN_BYTES, predictions.PART_BYTES = 0, 1 << 20
    comm, what = world(), sys.argv[2]
    if what == "full" and comm.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
    def mine():
        for i in range(8):
            start = (8 * comm.rank + i) * 10000
            if what == "kill" and comm.rank == 1 and i == 7:
                assert list(Path(sys.argv[1] + ".parts").rglob("part-00001-*"))  # some are written
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"row": np.arange(start, start + 10000), "prediction": np.arange(start, start + 10000) / 4}
    none = {"row": np.zeros(0, np.int64), "prediction": np.zeros(0)}
    try:
        n = 80000 * comm.size
        predictions.write_predictions(comm, Path(sys.argv[1]), mine(), none, n, {"data": "d"})
    except OutputError as error:
        print(error.exit_code, error.on_all_ranks, str(error).partition(": ")[2])
"""


def test_under_mpi(tmp_path, spmd):
    path = tmp_path / "out" / "p.h5"
    spmd(3, PROGRAM, path, "well", check=0)
    assert np.array_equal(plainly(path)["prediction"], np.arange(240000) / 4)
    assert np.array_equal(read_predictions(path).columns["row"], np.arange(240000))


def test_a_full_disk_leaves_nothing(tmp_path, spmd):
    path = tmp_path / "out" / "p.h5"
    done = spmd(3, PROGRAM, path, "full", check=0)
    assert done.lines == ["5 True the file would be larger than the limit allows"] * 3
    assert list(path.parent.iterdir()) == []


def test_a_killed_rank_leaves_nothing_that_looks_complete(tmp_path, spmd):
    path = tmp_path / "out" / "p.h5"
    assert spmd(3, PROGRAM, path, "kill").returncode != 0
    assert not path.exists() and len(tokens(path)) == 1
    spmd(2, PROGRAM, path, "well", check=0)
    assert len(tokens(path)) == 1 and len(read_predictions(path).columns["row"]) == 160000
