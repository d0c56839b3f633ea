"""Which files a spec names (lists, patterns, the test file), and how they are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small
import stores

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.errors import DataError
from hpcml.run.inputs import data_files, make_layout, open_part, open_rows, try_untrusted
from hpcml.spec import parse_spec

SIZES = [1, 2, 3, 5]
SERIAL = SerialCommunicator()


def spec_of(path, **keys):
    """Return the spec of `path`, one or a list."""
    tree = small.tree(Path("x"), **keys)
    tree["data"]["path"] = [str(one) for one in path] if isinstance(path, list) else str(path)
    return parse_spec(json.dumps(tree), source="spec.yaml", directory=Path("/specs"))


@pytest.fixture
def folder(tmp_path):
    """Files whose names sort otherwise than they were made."""
    for number, name in enumerate(("part-2.h5", "part-10.h5", "part-1.h5", "other.h5")):
        stores.put(tmp_path / name, stores.matrix(n=20 + number, seed=number))
    (tmp_path / "part-3.txt").touch()
    return tmp_path


def names(spec, comm=SERIAL, part="train"):
    return [path.name for path in data_files(spec, comm, part)]


@pytest.mark.parametrize("size", SIZES)
def test_patterns_are_sorted_and_lists_keep_their_order(folder, size):
    for path, wanted in (
        (folder / "part-2.h5", ["part-2.h5"]),
        ([folder / "part-2.h5", folder / "other.h5"], ["part-2.h5", "other.h5"]),
        (folder / "part-*.h5", ["part-1.h5", "part-10.h5", "part-2.h5"]),
        (folder / "part-?.h5", ["part-1.h5", "part-2.h5"]),
        (
            [folder / "other.h5", folder / "part-[12]*.h5"],
            ["other.h5", "part-1.h5", "part-10.h5", "part-2.h5"],
        ),
        (folder / "missing.h5", ["missing.h5"]),  # whoever opens it says so
    ):
        spec = spec_of(path)
        assert run_threads(size, lambda comm, spec=spec: names(spec, comm)) == [wanted] * size


@pytest.mark.parametrize("size", SIZES)
def test_a_pattern_that_fits_nothing(folder, size):
    def work(comm):
        with pytest.raises(DataError, match=r"part-\*\.hdf: no file fits this pattern") as caught:
            names(spec_of([folder / "other.h5", folder / "part-*.hdf"]), comm)
        return caught.value.on_all_ranks

    assert run_threads(size, work) == [True] * size


def test_a_file_whose_name_looks_like_a_pattern(folder):
    stores.put(folder / "part-[1].h5", stores.matrix(n=3))
    assert names(spec_of(folder / "part-[1].h5")) == ["part-[1].h5"]


def test_the_test_file(folder):
    split = {"method": "file", "test": str(folder / "part-1*.h5")}
    spec = spec_of(folder / "other.h5", data__split=split)
    assert names(spec) == ["other.h5"]
    assert names(spec, part="test") == ["part-1.h5", "part-10.h5"]


@pytest.mark.parametrize("size", SIZES)
def test_rows_of_all_files_in_order(folder, size):
    files = ["part-1.h5", "part-10.h5", "part-2.h5"]
    X = np.concatenate([stores.sliced(folder / name, "X", 0, None) for name in files])
    spec = spec_of(folder / "part-*.h5", data__split={"method": "none"}, data__weight="w")

    def work(comm):
        with open_rows(spec, comm, "train") as rows:
            data = open_part(spec, comm, "train", rows, "none")
            return [(block.start, block.X.copy(), block.weight) for block in data.blocks()], data.n_samples

    parts = run_threads(size, work)
    assert {n for _, n in parts} == {len(X)}
    np.testing.assert_array_equal(np.concatenate([x for blocks, _ in parts for _, x, _ in blocks]), X)


def test_the_split_is_of_the_rows_of_all_files(folder):
    spec = spec_of(folder / "part-*.h5")
    with open_rows(spec, SERIAL, "train") as rows:
        train, test = (open_part(spec, SERIAL, part, rows, "none") for part in ("train", "test"))
        assert train.n_samples + test.n_samples == rows.n_samples == 63
        index = np.concatenate([block.index for data in (train, test) for block in data.blocks()])
        assert sorted(index.tolist()) == list(range(63))


def test_keys_of_reading_reach_the_reader(folder):
    io = {"chunk_cache": 1000, "prefetch": 7}
    spec = spec_of(folder / "other.h5", data__io=io, data__allow_external=True, data__dtype="float32")
    with open_rows(spec, SERIAL, "train") as rows:
        access = rows.access
        assert (access.chunk_cache, access.allow_external, access.driver) == (1000, True, "independent")
        assert access.threads >= 1
        assert rows.dtype == np.float32
        layout = make_layout(spec, rows)
        assert make_layout(spec_of("a.h5", data__io={"driver": "mpio"}), rows).prefetch == 0
    assert (layout.prefetch, layout.block_rows, layout.shard_bytes) == (7, 64, small.CUT["shard_bytes"])


def test_a_whole_run_over_a_pattern_and_a_list(tmp_path):
    rows = small.make_rows(tmp_path / "whole.h5")
    for i, (start, stop) in enumerate(((0, 128), (128, 320), (320, 600))):  # whole shards
        X, y = (stores.sliced(rows, name, start, stop) for name in ("X", "y"))
        with stores.h5py.File(tmp_path / f"part{i}.h5", "w") as file:
            file["X"], file["y"] = X, y
    parts = [str(tmp_path / f"part{i}.h5") for i in range(3)]
    lines = []
    for name, path in (("one", str(rows)), ("list", parts), ("glob", str(tmp_path / "part?.h5"))):
        spec = small.write_spec(tmp_path / f"{name}.yaml", rows, data__path=path, data__cache="none")
        lines.append(["run", spec, f"output.dir={tmp_path / name}"])
    for n in (1, 3):
        ended = small.commands(n, lines, tmp_path / f"on{n}")
        assert [[rank.code for rank in ranks] for ranks in ended] == [[0] * n] * 3, ended
        results = [small.result_of(tmp_path / name) for name in ("one", "list", "glob")]
        assert len({result["model_digest"] for result in results}) == 1
        assert len({result["data_digest"] for result in results}) == 1
        assert {result["reading"]["retries"] for result in results} == {0}
        assert [result["reading"]["opens_per_rank"] <= 3 for result in results] == [True] * 3
        for name in ("one", "list", "glob"):
            (tmp_path / name).rename(tmp_path / f"{name}-{n}")
    bad = small.write_spec(tmp_path / "bad.yaml", rows, data__path=str(tmp_path / "nothing*.h5"))
    done = small.hpcml("run", bad, f"output.dir={tmp_path / 'bad'}", check=3)
    assert "nothing*.h5: no file fits this pattern" in done.stderr


GENERATED = {"kind": "classification", "rows": 9, "features": 2}


@pytest.mark.parametrize(
    ("made", "opened"),
    [({}, ["part-1.h5", "part-10.h5", "part-2.h5", "other.h5"]), ({"generate": GENERATED}, ["other.h5"])],
    ids=["given", "made by the run"],
)
def test_a_child_opens_first_what_the_run_did_not_make(folder, monkeypatch, made, opened):
    tried = []
    monkeypatch.setattr("hpcml.io.describe.preflight.preflight", tried.append)
    tree = small.tree(Path("x"))
    tree["data"] |= {"split": {"method": "file", "test": str(folder / "other.h5")}, "io": {"untrusted": True}}
    tree["data"] |= {"path": str(folder / ("new.h5" if made else "part-*.h5")), **made}
    spec = parse_spec(json.dumps(tree), source="spec.yaml", directory=Path("/specs"))
    try_untrusted(spec)
    assert [path.name for path in tried] == opened
