"""A file stored in another way has the same content; what cannot be copied whole is not copied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import harness
import numpy as np
import pytest
import small
from scipy import sparse

from hpcml.collectives import Communicator, run_threads
from hpcml.errors import DataError, HpcmlError, OutputError, SpecError
from hpcml.io.files import file_digest
from hpcml.io.write import chunks as chunk_write
from hpcml.io.write import rechunk as module
from hpcml.io.write.filters import CONTIGUOUS, Storage
from hpcml.io.write.rechunk import RechunkReport, Target, rechunk

N = 3011
STORAGES = [
    CONTIGUOUS,
    Storage(chunk_rows=100),
    Storage(compression="gzip:1"),
    Storage(compression="lzf", chunk_rows=64, fletcher32=True),
]


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Many rounds of few rows."""
    monkeypatch.setattr(chunk_write, "UNIT_BYTES", 8000)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Every kind of thing that stands in files."""
    path = tmp_path_factory.mktemp("rechunk") / "source.h5"
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(N, 7)) * 16) / 16
    with h5py.File(path, "w") as file:
        file["X"] = X
        file["X"].attrs["unit"] = np.array([1, 2])
        file["y"] = X[:, 0] > 0
        file["again"] = file["y"]
        file["soft"] = h5py.SoftLink("/X")
        file.create_dataset("cut", data=X, chunks=(1000, 3), compression="gzip", fletcher32=True)
        file.create_dataset("growing", data=X[:, :2], chunks=(13, 2), maxshape=(None, 2))
        file["big_endian"] = np.arange(N, dtype=">i2")
        file["half"] = X.astype(np.float16)
        file["complex"] = X[:5] * 1j
        file["cube"] = rng.random((N, 2, 2))
        small.put_csr(file, "deep/S", sparse.random_array((N, 300), density=0.02, format="csr", rng=rng))
        file["deep"].attrs["note"] = "text"
        file["names"] = np.array(["a", "é"], dtype=h5py.string_dtype())
        file["feature_names"] = np.array([b"p", b"q"])
        file["scalar"] = 3.5
        file["nothing"] = np.zeros((0, 4))
        file["kind"] = np.dtype([("a", "i4"), ("b", "f8")])
        file.create_group("empty/inside")
        file.attrs["hpcml_recipe"] = "{}"
        file.attrs["classes"] = ["no", "yes"]
        file.attrs["null"] = h5py.Empty("f8")
    return path


def run(
    size: int, source: Path, destination: Path, target: Target, *, overwrite: bool = False
) -> RechunkReport:
    said: list[str] = []
    reports = run_threads(
        size, lambda comm: rechunk(comm, source, destination, target, said.append, overwrite=overwrite)
    )
    assert all(report == reports[0] for report in reports)
    assert said == []
    return reports[0]


def tree(path: Path) -> dict[str, Any]:
    """All that a file holds, by path."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items() if key != "null"}
        content = None
        if isinstance(item, h5py.Dataset):
            content = (item.dtype, item.shape, item[()].tolist())
        found[name] = (type(item).__name__, attributes, content)

    with h5py.File(path) as file:
        note("/", file["/"])
        for name in names(file):
            note(name, file[name])
    return found


def names(group: Any, path: str = "") -> list[str]:
    """All names with links followed."""
    below = []
    for name in group:
        below.append(f"{path}{name}")
        if isinstance(group[name], h5py.Group):
            below += names(group[name], f"{path}{name}/")
    return below


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_the_content_stays_and_ranks_leave_no_trace(source, tmp_path, storage):
    digests = set()
    for size in (1, 2, 3, 5, 40):
        report = run(size, source, tmp_path / "f.h5", Target(storage), overwrite=size > 1)
        digests.add(file_digest(tmp_path / "f.h5"))
        assert report == (tmp_path / "f.h5", 11, source.stat().st_size, (tmp_path / "f.h5").stat().st_size)
    assert len(digests) == 1
    assert os.listdir(tmp_path) == ["f.h5"]
    assert tree(tmp_path / "f.h5") == tree(source)
    with h5py.File(tmp_path / "f.h5") as file:
        assert isinstance(file.get("soft", getlink=True), h5py.SoftLink)
        assert file["again"] == file["y"]
        assert isinstance(file.attrs["null"], h5py.Empty)
        for name in ("X", "cut", "growing", "deep/S/data", "y"):
            chunked = file[name].chunks is not None
            assert chunked == (storage is not CONTIGUOUS)
            assert file[name].fletcher32 == storage.fletcher32


def test_chunks_have_the_rows_that_were_asked_for(source, tmp_path):
    run(2, source, tmp_path / "f.h5", Target(Storage(chunk_rows=100)))
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["X"].chunks == (100, 7) and file["y"].chunks == (100,)
        assert file["deep/S/indptr"].chunks == (100,)
        mean = file["deep/S/data"].shape[0] / N
        assert file["deep/S/data"].chunks == file["deep/S/indices"].chunks == (round(100 * mean),)


def test_what_was_rechunked_can_be_rechunked_back(source, tmp_path):
    run(1, source, tmp_path / "a.h5", Target(CONTIGUOUS))
    run(3, tmp_path / "a.h5", tmp_path / "b.h5", Target(Storage(compression="gzip")))
    run(2, tmp_path / "b.h5", tmp_path / "c.h5", Target(CONTIGUOUS))
    assert file_digest(tmp_path / "a.h5") == file_digest(tmp_path / "c.h5")


def test_another_dtype_is_that_of_x_alone(source, tmp_path):
    run(2, source, tmp_path / "f.h5", Target(CONTIGUOUS, "float32"))
    with h5py.File(source) as old, h5py.File(tmp_path / "f.h5") as new:
        for name in ("X", "cut", "growing", "deep/S/data", "half"):
            assert new[name].dtype == np.float32
            assert np.array_equal(new[name][()], old[name][()].astype(np.float32))
        for name in ("y", "big_endian", "cube", "deep/S/indices", "deep/S/indptr"):
            assert new[name].dtype == old[name].dtype
        # The recipe and digest of a conversion are not true of other numbers.
        assert set(new.attrs) == set(old.attrs) - {"hpcml_recipe"}


def test_numbers_that_a_type_cannot_hold(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["X"] = np.full((500, 4), 1e39)
    with pytest.raises(
        DataError, match=r"s.h5: rows 0 to \d+ of 'X' hold numbers that are too large for float32"
    ):
        run(2, tmp_path / "s.h5", tmp_path / "d.h5", Target(CONTIGUOUS, "float32"))
    assert os.listdir(tmp_path) == ["s.h5"]


def test_a_file_that_is_there_stays(source, tmp_path):
    path = tmp_path / "f.h5"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="give --overwrite to replace it"):
        run(2, source, path, Target(CONTIGUOUS))
    assert path.read_bytes() == b"old"
    run(2, source, path, Target(CONTIGUOUS), overwrite=True)
    assert tree(path) == tree(source)


@pytest.mark.parametrize("link", [False, True])
def test_the_source_is_never_replaced(source, tmp_path, link):
    path = tmp_path / "s.h5"
    path.write_bytes(source.read_bytes())
    other = path
    if link:
        other = tmp_path / "link.h5"
        other.hardlink_to(path)
    with pytest.raises(SpecError, match="is the file to be read"):
        run(2, path, other, Target(CONTIGUOUS), overwrite=True)
    assert path.read_bytes() == source.read_bytes()


def damaged(path: Path, how: str) -> str:
    """Make a file that must not be copied; return what is said of it."""
    with h5py.File(path, "w") as file:
        X = file.create_dataset("X", (100, 3), "f8", chunks=(10, 3), compression="gzip", fletcher32=True)
        X[:] = np.random.default_rng(0).random((100, 3))
        if how == "hole":
            file.create_dataset("w", (100,), "f8", chunks=(10,))[:50] = 1.0
        if how == "external":
            file["elsewhere"] = h5py.ExternalLink("other.h5", "/X")
        if how == "virtual":
            layout = h5py.VirtualLayout((100, 3), "f8")
            layout[:] = h5py.VirtualSource("missing.h5", "X", (100, 3))
            file.create_virtual_dataset("V", layout)
        where = X.id.get_chunk_info(4)
    text = bytearray(path.read_bytes())
    if how == "truncated":
        text = text[:-100]
    if how == "flipped":
        text[where.byte_offset + where.size // 2] ^= 1
    path.write_bytes(text)
    return {
        "hole": "5 of its 10 chunks were never written",
        "external": "external link",
        "virtual": "missing.h5",
        "truncated": "is truncated",
        "flipped": "rows 40 to 50 of 'X' cannot be read",
    }[how]


@pytest.mark.parametrize("how", ["hole", "external", "virtual", "truncated", "flipped"])
def test_what_is_not_whole_is_not_copied(tmp_path, how):
    said = damaged(tmp_path / "s.h5", how)
    with pytest.raises(DataError, match=said):
        run(3, tmp_path / "s.h5", tmp_path / "d.h5", Target(CONTIGUOUS))
    assert os.listdir(tmp_path) == ["s.h5"]


def test_a_source_that_changes_meanwhile(source, tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    path.write_bytes(source.read_bytes())
    read = module._read

    def meanwhile(*args: Any) -> Any:
        os.utime(path, (1, 1))
        return read(*args)

    monkeypatch.setattr(module, "_read", meanwhile)
    with pytest.raises(DataError, match="was replaced or changed while it was read"):
        run(2, path, tmp_path / "d.h5", Target(CONTIGUOUS))
    assert os.listdir(tmp_path) == ["s.h5"]


def test_references_are_left_out_and_named(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["X"] = np.zeros((3, 2))
        file["X"].attrs["to"] = file["X"].ref
    said: list[str] = []

    def program(comm: Communicator) -> None:
        rechunk(comm, tmp_path / "s.h5", tmp_path / "d.h5", Target(CONTIGUOUS), said.append)

    run_threads(2, program)
    assert said == ["left out: the attribute 'to' of 'X', which refers to places in the source"]


def test_the_command(source, tmp_path):
    words = (
        "rechunk",
        source,
        tmp_path / "f.h5",
        "-n",
        "2",
        "--compression",
        "gzip:1",
        "--chunk-rows",
        "128",
    )
    done = small.hpcml(*words, check=0)
    sizes = f"{source.stat().st_size:,} bytes before, {(tmp_path / 'f.h5').stat().st_size:,} now"
    assert done.stdout == f"{tmp_path / 'f.h5'}: 11 data sets; {sizes}\n"
    assert tree(tmp_path / "f.h5") == tree(source)
    serial = run(1, source, tmp_path / "g.h5", Target(Storage(compression="gzip:1", chunk_rows=128)))
    assert file_digest(serial.path) == file_digest(tmp_path / "f.h5")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["SOURCE", "SOURCE"], 2, "is the file to be read"),
        (["MISSING", "OUT"], 3, "there is no such file"),
        (["SOURCE", "THERE"], 5, "give --overwrite"),
        (["SOURCE", "THERE/f.h5"], 5, "not a directory"),
        (["SOURCE", "OUT", "--compression", "zip"], 2, "'zip' does not fit"),
        (["SOURCE", "OUT", "--contiguous", "--fletcher32"], 2, "only chunks have it"),
    ],
)
def test_the_command_refuses_in_one_sentence(source, tmp_path, words, code, said):
    (tmp_path / "there").touch()
    paths = {"SOURCE": source, "MISSING": tmp_path / "no", "OUT": tmp_path / "o.h5"}
    paths |= {"THERE": tmp_path / "there", "THERE/f.h5": tmp_path / "there" / "f.h5"}
    done: harness.Completed = small.hpcml("rechunk", *[paths.get(word, word) for word in words], check=code)
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr
    assert os.listdir(tmp_path) == ["there"]


LIMITED = """
    import resource, sys
    from pathlib import Path
    from hpcml.collectives import world
    from hpcml.errors import HpcmlError
    from hpcml.io.write.filters import Storage
    from hpcml.io.write.rechunk import Target, rechunk

    comm = world()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    try:
        rechunk(comm, Path(sys.argv[1]), Path(sys.argv[2]), Target(Storage(compression="gzip")), print)
    except HpcmlError as error:
        print(type(error).__name__, error.exit_code)
"""


@pytest.mark.parametrize("limit", [1000, 60_000])
def test_a_real_limit_crashes_nothing(
    source: Path, tmp_path: Path, spmd: Callable[..., Any], limit: int
) -> None:
    job = spmd(2, LIMITED, source, tmp_path / "out" / "f.h5", str(limit), check=0)
    assert job.lines == ["OutputError 5"] * 2, job.describe()
    assert os.listdir(tmp_path / "out") == []


def test_a_dtype_that_is_none():
    with pytest.raises(SpecError, match="write float32 or float64"):
        Target(CONTIGUOUS, "int8")
    assert issubclass(SpecError, HpcmlError)
