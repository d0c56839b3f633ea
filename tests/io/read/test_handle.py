"""An open file gives the bytes of the file whose layout was read, or an error that names it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hpcml.errors import DataError
from hpcml.io.read import handle as module
from hpcml.io.read.handle import Handle, Traffic, identity_of

BYTES = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8)
REAL = os.preadv


@pytest.fixture
def path(tmp_path):
    BYTES.tofile(tmp_path / "rows.h5")
    return tmp_path / "rows.h5"


@pytest.fixture
def opened(path):
    handle = Handle(path, identity_of(path.stat()), Traffic())
    read(handle, 0, 0)  # opens it
    yield handle
    handle.close()


def read(handle, start, stop):
    out = np.zeros(stop - start, np.uint8)
    handle.read_into(out, start)
    return out


def test_the_bytes_at_an_offset(opened):
    for start, stop in ((0, 10_000), (3, 3), (17, 4321), (9999, 10_000)):
        np.testing.assert_array_equal(read(opened, start, stop), BYTES[start:stop])
    out = np.zeros((5, 2), ">f4")
    opened.read_into(out, 100)
    assert out.tobytes() == BYTES[100:140].tobytes()
    assert opened.traffic == Traffic(opens=1, bytes_read=10_000 + 4304 + 1 + 40)


def test_no_call_is_above_the_limit(opened, monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "_CALL_BYTES", 1000)
    monkeypatch.setattr(
        os, "preadv", lambda fd, views, at: sizes.append(memoryview(views[0]).nbytes) or REAL(fd, views, at)
    )
    np.testing.assert_array_equal(read(opened, 5, 4005), BYTES[5:4005])
    assert sizes == [1000] * 4
    assert module._CALL_BYTES != 256 << 20  # the patch was seen


def test_short_reads_are_taken_up(opened, monkeypatch):
    monkeypatch.setattr(
        os, "preadv", lambda fd, views, at: REAL(fd, [memoryview(views[0]).cast("B")[:333]], at)
    )
    np.testing.assert_array_equal(read(opened, 1, 5000), BYTES[1:5000])
    assert opened.traffic.bytes_read == 4999


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO], ids=["ESTALE", "EIO"])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_errors_that_may_pass_are_tried_again(opened, monkeypatch, code, times):
    left = [code] * times

    def failing(fd, views, at):
        if left:
            raise OSError(left.pop(), os.strerror(code))
        return REAL(fd, views, at)

    monkeypatch.setattr(os, "preadv", failing)
    if times <= 3:
        np.testing.assert_array_equal(read(opened, 70, 99), BYTES[70:99])
        assert opened.traffic == Traffic(opens=1 + times, bytes_read=29, retries=times)
        return
    with pytest.raises(DataError, match=rf"rows\.h5: cannot be read at offset 70 \({os.strerror(code)}\)"):
        read(opened, 70, 99)
    assert opened.traffic.retries == 3


def test_another_error_is_not_tried_again(opened, monkeypatch):
    def failing(fd, views, at):
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(DataError, match=r"rows\.h5: cannot be read at offset 0 \(no\)"):
        read(opened, 0, 1)
    assert opened.traffic.retries == 0


def test_a_retry_does_not_go_on_with_another_file(opened, path, monkeypatch):
    def failing(fd, views, at):
        os.replace(other, path)
        raise OSError(errno.ESTALE, "stale")

    other = path.with_name("other")
    other.write_bytes(bytes(10_000))
    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(DataError, match=r"rows\.h5: was replaced or changed since its layout was read"):
        read(opened, 0, 10)


def test_a_retry_of_a_file_that_is_gone(opened, path, monkeypatch):
    def failing(fd, views, at):
        path.unlink()
        raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(DataError, match=r"rows\.h5: cannot be opened \(No such file or directory\)"):
        read(opened, 0, 10)
    opened.close()  # twice does no harm


def test_a_file_that_another_process_truncates(opened, path):
    opened.check()
    code = "import os, sys; os.truncate(sys.argv[1], 4000)"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    np.testing.assert_array_equal(read(opened, 0, 4000), BYTES[:4000])
    sentence = r"rows\.h5: is truncated: it ends at byte 4000 and 1000 bytes at offset 4000 were to be read"
    with pytest.raises(DataError, match=sentence):
        read(opened, 3000, 5000)
    with pytest.raises(DataError, match=r"changed while it was read: it had 10000 bytes, now 4000"):
        opened.check()


def _replace(path):
    path.with_name("new").write_bytes(path.read_bytes())
    os.replace(path.with_name("new"), path)


def _write(path):
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(before + 1, before + 1))  # a coarse clock may not have moved


CHANGES = {
    "replaced": (_replace, "was replaced while it was read"),
    "written to": (_write, "changed while it was read: it had 10000 bytes, now 10000, and its time"),
    "touched": (lambda path: os.utime(path, ns=(1, 1)), "changed while it was read"),
    "longer": (
        lambda path: os.truncate(path, 20_000),
        "changed while it was read: it had 10000 bytes, now 20000",
    ),
    "gone": (lambda path: path.unlink(), r"vanished while it was read \(No such file or directory\)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_is_no_longer_the_one_opened(opened, path, name):
    change, sentence = CHANGES[name]
    opened.check()
    change(path)
    with pytest.raises(DataError, match=rf"rows\.h5: {sentence}"):
        opened.check()


@pytest.mark.parametrize("name", ["replaced", "written to", "touched", "longer"])
def test_a_file_that_changed_before_it_is_opened(path, name):
    traffic, identity = Traffic(), identity_of(path.stat())
    CHANGES[name][0](path)
    with pytest.raises(DataError, match=r"rows\.h5: was replaced or changed since its layout was read"):
        read(Handle(path, identity, traffic), 0, 1)


def test_a_file_that_cannot_be_opened(path, monkeypatch):
    identity = identity_of(path.stat())

    def denied(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)  # root may open everything
    with pytest.raises(DataError, match=r"rows\.h5: cannot be opened \(Permission denied\)"):
        read(Handle(path, identity, Traffic()), 0, 1)


def test_a_file_is_opened_once_by_all_threads(path, monkeypatch):
    def slowly(*args):
        come.wait()  # one thread at most, while the others are on their way
        return real(*args)

    real, come = os.open, threading.Event()
    monkeypatch.setattr(os, "open", slowly)
    handle = Handle(path, identity_of(path.stat()), Traffic())
    with ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(read, handle, at, at + 10) for at in range(0, 40, 10)]
        threading.Timer(0.05, come.set).start()  # a later one finds more of them waiting: never red by itself
        found = [part.result(30) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), BYTES[:40])
    assert handle.traffic.opens == 1
    handle.close()


def test_a_descriptor_that_is_open_already_is_owned(path):
    descriptor = os.open(path, os.O_RDONLY)
    handle = Handle(path, identity_of(path.stat()), Traffic(), descriptor)
    np.testing.assert_array_equal(read(handle, 0, 50), BYTES[:50])
    assert handle.traffic.opens == 0
    handle.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
