"""Files that crash, spin or eat memory end a child, never this process; damaged ones give an answer."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import sys
from collections import Counter

import h5py
import harness
import numpy as np
import pytest

from hpcml.errors import DataError
from hpcml.io.describe import preflight as module
from hpcml.io.describe.file import describe_file
from hpcml.io.describe.preflight import preflight
from hpcml.process import run_aside

# What a file crafted against HDF5 may do to the process that opens it.
STUB = """
import os
import h5py

opened = h5py.File


def open_it(path, *args, **options):
    if os.path.basename(path) == "crafted.h5":
        {deed}
    return opened(path, *args, **options)


h5py.File = open_it
"""
DEEDS = {
    "abort": ("os.abort()", r"reading its structure killed a process \(signal 6\)"),
    "segfault": (
        "import ctypes; ctypes.string_at(0)",
        r"reading its structure killed a process \(signal 11\)",
    ),
    "spin": ("\n        while True: pass", r"reading its structure took more than 1 s of processor time"),
    "wait": ("import time; time.sleep(600)", r"reading its structure took more than 3 s$"),
    "memory": ("bytearray(5 << 30)", r"reading its structure takes more than 2 GiB of memory"),
    "bug": ("1 / 0", r"reading its structure ended a process with the exit code 1"),
}


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["X"] = np.arange(40.0).reshape(10, 4)
    return path


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_crafted_file_does_it_does_to_a_child(tmp_path, rows, monkeypatch, deed):
    text, said = DEEDS[deed]
    (tmp_path / "sitecustomize.py").write_text(STUB.format(deed=text))
    crafted = rows.rename(tmp_path / "crafted.h5")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{harness.ROOT}")
    monkeypatch.setattr(module, "_CPU_SECONDS", 1 if deed == "spin" else 60)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 3.0 if deed == "wait" else 300.0)
    with pytest.raises(DataError, match=f"^{crafted}: rejected: {said}"):
        preflight(crafted)


def test_a_good_file_is_described_by_the_child(rows):
    limits = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    assert preflight(rows) == describe_file(rows)
    assert limits == (resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU))


@pytest.mark.parametrize(
    ("name", "said"),
    [("nope.h5", "there is no such file"), ("-c", "is not an HDF5 file"), (".", "is a directory")],
)
def test_errors_of_the_child_are_told_as_they_are(tmp_path, name, said):
    if name == "-c":
        (tmp_path / name).write_text("raise SystemExit(9)")
    with pytest.raises(DataError, match=rf"{said}"):
        preflight(tmp_path / name)


def test_the_child_imports_nothing_from_the_working_directory(tmp_path, rows, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert preflight(rows)["kind"] == "HDF5 file"


def test_a_child_aside():
    assert run_aside([sys.executable, "-c", "print(1); raise SystemExit(7)"], 60.0) == (7, b"1\n")
    assert run_aside([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 60.0) == (137, b"")
    assert run_aside([sys.executable, "-c", "import time; time.sleep(600)"], 0.5) == (124, b"")
    assert run_aside([sys.executable, "-c", "import sys; print(sys.stdin.read())"], 60.0) == (0, b"\n")


# --- damaged files


@pytest.fixture(scope="module", params=["earliest", "latest"])
def whole(tmp_path_factory, request):
    """The bytes of a file with one of each kind of thing."""
    path = tmp_path_factory.mktemp("whole") / f"{request.param}.h5"
    X = np.random.default_rng(0).normal(size=(60, 4))
    with h5py.File(path, "w", libver=request.param) as file:
        file["X"] = X
        file.create_dataset("c", data=X, chunks=(20, 4), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("w", data=X, chunks=(7, 3), maxshape=(None, None))
        for part in ("data", "indices", "indptr"):
            file[f"S/{part}"] = np.arange(10)
        file["S"].attrs["shape"] = (9, 4)
        file["names"] = ["a", "b"]
        file["soft"], file["out"] = h5py.SoftLink("/X"), h5py.ExternalLink("o.h5", "/X")
        layout = h5py.VirtualLayout((60, 4), "f8")
        layout[:] = h5py.VirtualSource(".", "X", (60, 4))
        file.create_virtual_dataset("V", layout)
    return path.read_bytes()


def test_a_file_that_was_cut_is_always_refused(tmp_path, whole):
    path = tmp_path / "cut.h5"
    for size in [0, 7, 8, 9, 47, 48, 95, 96, 200, *range(500, len(whole), 999), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"is truncated|is not an HDF5 file|cannot be opened"):
            describe_file(path)
    with pytest.raises(DataError, match=rf"{path}: is truncated: it has {len(whole) - 1} bytes"):
        preflight(path)


def _damaged(whole, seed):
    """Change a few bytes to what breaks parsers most."""
    choose, content = random.Random(seed), bytearray(whole)
    for _ in range(choose.choice([1, 2, 8])):
        at = choose.randrange(len(content))
        content[at] = choose.choice([0, 255, content[at] ^ (1 << choose.randrange(8)), choose.randrange(256)])
    at = choose.randrange(len(content) - 8)
    if choose.random() < 0.5:
        content[at : at + 8] = choose.choice([b"\xff" * 8, bytes(8), (1 << 40).to_bytes(8, "little")])
    return bytes(content)


def _outcome(path):
    """Describe a file in a fork: its exit code, as preflight would see it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    faulthandler.disable()
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        module._limit(20, 2 << 30)
        json.dumps(describe_file(path))
        code = 0
    except DataError as error:
        code = 3 if str(error).startswith(f"{path}: ") else 98
    finally:
        os._exit(code)


def test_damaged_files_are_refused_or_described(tmp_path, whole):
    """Nothing but an answer, a DataError with the file's name, or a death by HDF5's own fault."""
    path, outcomes = tmp_path / "damaged.h5", Counter()
    for seed in range(60):
        path.write_bytes(_damaged(whole, seed))
        outcomes[_outcome(path)] += 1
    print(dict(outcomes))
    assert all(code in (0, 3, module._OUT_OF_MEMORY) or code < 0 for code in outcomes), outcomes
    assert outcomes[0] and outcomes[3]


@pytest.mark.parametrize("whole", ["latest"], indirect=True)
def test_a_real_file_that_kills_hdf5(tmp_path, whole):
    """The index of chunks with a count of none: HDF5 2.0 dies of it, a later one may not."""
    path = tmp_path / "damaged.h5"
    at = whole.index(b"BTHD\0\n") + 26
    path.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
    died = _outcome(path) < 0
    if died:
        with pytest.raises(
            DataError, match=rf"^{path}: rejected: reading its structure killed a process \(sig"
        ):
            preflight(path)
    else:
        print("this HDF5 reads it")
        assert preflight(path)["kind"] == "HDF5 file"


@pytest.mark.parametrize("at", range(8))
def test_a_damaged_signature_is_refused(tmp_path, whole, at):
    path = tmp_path / "damaged.h5"
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataError, match="is not an HDF5 file"):
        describe_file(path)
