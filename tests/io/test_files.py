"""Files are complete or absent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import harness
import pytest

from hpcml.errors import DataError, OutputError
from hpcml.io import files
from hpcml.io.files import digest_of, file_digest, read_bytes, replacing, write_bytes


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "below" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == read_bytes(path) == b"two"
    assert os.listdir(path.parent) == ["file"]
    assert file_digest(path) == digest_of(b"two")


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_in_the_middle_leaves_what_was_there(tmp_path, error, exists):
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old")
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replacing(path) as aside:
        aside.write_bytes(b"ne")
        assert aside.parent == tmp_path and (path.read_bytes() if exists else None) in (b"old", None)
        raise error
    assert os.listdir(tmp_path) == (["file"] if exists else [])
    assert not exists or path.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no space left on the device"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_call_is_one_sentence(tmp_path, monkeypatch, call, code, said):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args: object, **keywords: object) -> None:
        raise OSError(code, os.strerror(code))

    if call == "open":
        monkeypatch.setattr(Path, "write_bytes", fail)
    else:
        monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(OutputError) as caught:
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert str(caught.value) == f"cannot write {path}: {said}"
    assert caught.value.exit_code == 5
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_the_rename_is_after_the_sync_and_before_that_of_the_directory(tmp_path, monkeypatch):
    order, me = [], threading.get_ident()
    fsync, replace = os.fsync, os.replace

    def noted(name, deed):
        # Files are written by threads of other tests, too.
        return lambda *args: (threading.get_ident() == me and order.append(name)) or deed(*args)

    monkeypatch.setattr(files.os, "fsync", noted("fsync", fsync))
    monkeypatch.setattr(files.os, "replace", noted("replace", replace))
    write_bytes(tmp_path / "file", b"x")
    assert order == ["fsync", "replace", "fsync"]


def test_a_limit_of_file_size_is_an_output_error(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match="the file would be larger than the limit allows"):
            write_bytes(tmp_path / "file", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("below", "said"), [(True, "a part of the path is not a directory"), (False, "is a directory")]
)
def test_a_place_that_cannot_be_written(tmp_path, below, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = tmp_path / "file" / "x" if below else tmp_path / "folder"
    with pytest.raises(OutputError, match=said):
        write_bytes(path, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_kill_leaves_the_old_file(tmp_path):
    # The process dies at the rename, the last moment at which the new file is not there.
    (tmp_path / "file").write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from hpcml.io import files\n"
        "files.os.replace = lambda a, b: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_bytes(Path(sys.argv[1]), b'new')"
    )
    done = harness.run_job([sys.executable, "-c", code, str(tmp_path / "file")])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_bytes(tmp_path / "missing")
