"""A file of all ranks stands at its name when all have written, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes import Nodes

from hpcml.collectives import Communicator, CountingCommunicator, agreed, run_threads
from hpcml.errors import DataError, OutputError
from hpcml.io.files import writing
from hpcml.io.write.aside import replacing_together

SIZES = [1, 2, 3, 5]


def write(comm: Communicator, path: Path, outdated: Path | None = None) -> None:
    """Each rank writes its own letter, the first one before the others."""
    with replacing_together(comm, path, outdated) as aside:
        with agreed(comm):
            if comm.rank == 0:
                aside.write_bytes(b"?" * comm.size)
        with agreed(comm), open(aside, "r+b") as handle:
            handle.seek(comm.rank)
            handle.write(b"abcde"[comm.rank : comm.rank + 1])
        assert not path.exists() or path.read_bytes() == b"old"
        comm.allgather(None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("older", [False, True])
def test_all_ranks_write_one_file(tmp_path: Path, size: int, older: bool) -> None:
    path, index = tmp_path / "below" / "f", tmp_path / "f.index"
    index.touch()
    if older:
        path.parent.mkdir()
        path.write_bytes(b"old")
    run_threads(size, lambda comm: write(comm, path, index))
    assert path.read_bytes() == b"abcde"[:size]
    assert os.listdir(path.parent) == ["f"] and not index.exists()


def test_every_node_has_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, events = tmp_path / "f", []  # heartbeats that other tests started sync and rename their own files
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        fsync(handle)
        if os.readlink(f"/proc/self/fd/{handle}").startswith(str(tmp_path)):
            events.append("sync")

    def renamed(source: Path, destination: Path) -> None:
        if destination == path:
            events.append("rename")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    run_threads(5, lambda comm: write(Nodes(comm, 3), path))
    assert events == ["sync", "sync", "sync", "rename", "sync"]  # the last one is of the directory


@pytest.mark.parametrize("size", SIZES)
def test_an_error_of_one_rank_leaves_the_older_file(tmp_path: Path, size: int) -> None:
    path, index = tmp_path / "f", tmp_path / "f.index"
    path.write_bytes(b"old")
    index.touch()

    def program(comm: Communicator) -> None:
        with pytest.raises(DataError, match="bad row"), replacing_together(comm, path, index) as aside:
            with agreed(comm):
                if comm.rank == 0:
                    aside.write_bytes(b"half")
            with agreed(comm):
                if comm.rank == comm.size - 1:
                    raise DataError("bad row")

    run_threads(size, program)
    assert path.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["f", "f.index"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_full_disk_is_the_same_error_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, size: int
) -> None:
    path = tmp_path / "below" / "f"

    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    def program(comm: Communicator) -> str:
        with pytest.raises(OutputError) as caught:
            write(comm, path)
        assert caught.value.on_all_ranks
        return str(caught.value)

    monkeypatch.setattr(os, call, full)
    said = set(run_threads(size, program))
    monkeypatch.undo()
    assert said == {f"cannot write {path}: no space left on the device"}
    assert not path.parent.exists() or os.listdir(path.parent) == []


def test_an_error_keeps_its_sentence(tmp_path: Path) -> None:
    """An OutputError is an OSError too, and is not wrapped again."""
    with pytest.raises(OutputError, match=r"^the cure$"), writing(tmp_path / "f"):
        raise OutputError("the cure")


def test_messages(tmp_path: Path) -> None:
    def program(comm: Communicator) -> dict[str, int]:
        counting = CountingCommunicator(comm)
        with replacing_together(counting, tmp_path / "f") as aside:
            if comm.rank == 0:
                aside.touch()
            comm.allgather(None)
        return dict(counting.calls)

    assert run_threads(3, program) == [{"allreduce": 4, "bcast": 1, "node": 1}] * 3


PROGRAM = """
    import sys
    from pathlib import Path
    from hpcml.collectives import agreed, world
    from hpcml.errors import DataError
    from hpcml.io.write.aside import replacing_together

    comm = world()
    try:
        with replacing_together(comm, Path(sys.argv[1])) as aside, agreed(comm):
            if comm.rank == 0:
                aside.write_bytes(b"whole")
            if comm.rank == int(sys.argv[2]):
                raise DataError("bad row")
    except DataError as error:
        print(error)
    else:
        print("written")
"""


@pytest.mark.parametrize(("bad", "said", "left"), [(2, "bad row", []), (9, "written", ["f"])])
def test_under_mpiexec(
    tmp_path: Path, spmd: Callable[..., Any], bad: int, said: str, left: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    job = spmd(3, PROGRAM, tmp_path / "out" / "f", bad, check=0)
    assert job.lines == [said] * 3
    assert os.listdir(tmp_path / "out") == left
