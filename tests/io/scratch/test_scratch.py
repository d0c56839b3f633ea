"""A private directory on scratch: whose it is, what it refuses, and what a start removes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import harness
import pytest
from nodes import Nodes

from hpcml.collectives import SerialCommunicator, run_threads
from hpcml.errors import OutputError, SpecError
from hpcml.io.scratch import directory as scratch_module
from hpcml.io.scratch import sweep as sweep_module
from hpcml.io.scratch.directory import VARIABLES, Purpose, Wishes, open_scratch
from hpcml.io.scratch.folder import Folder, NoRoomError, make_folder, open_root, write_all
from hpcml.io.scratch.sweep import OWNER, read_owner, sweep

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


def opened(root=None, comm=None, said=None, keep="never", limit=None, stage="shard", **purpose):
    purpose = {"data": "d", "needed_bytes": 1000, **purpose}
    wishes = Wishes(path=root, keep=keep, limit=limit, stage=stage)
    return open_scratch(
        comm or SerialCommunicator(), wishes, Purpose(**purpose), [].append if said is None else said.append
    )


@contextlib.contextmanager
def folder_in(root):
    handle = open_root(root)
    folder = make_folder(handle, root / "private")
    os.close(handle)
    try:
        yield folder
    finally:
        folder.close()


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A root that a variable names and no other variable competes with."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path))
    return tmp_path


def test_a_directory_is_private_and_says_whose_it_is(ours):
    before = os.umask(0)
    try:
        with opened(job="123[4]/../x", attempt=2) as scratch:
            status = scratch.path.stat()
            assert stat.S_IMODE(status.st_mode) == 0o700 and status.st_uid == os.geteuid()
            assert scratch.path.name.startswith(f"hpcml-{os.geteuid()}-123_4__.._x-2-")
            owner = json.loads((scratch.path / OWNER).read_text())
            assert {path.stat().st_mode & 0o777 for path in scratch.path.iterdir()} == {0o600}
    finally:
        os.umask(before)
    fields = {
        "uid": os.geteuid(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "attempt": 2,
        "format": 1,
    }
    assert fields.items() <= owner.items()
    assert owner["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert os.listdir(ours) == []


def test_the_root_is_the_first_variable_that_can_be_used(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in (*VARIABLES[::-1],):
        (tmp_path / name).mkdir()
        with opened() as scratch:
            assert scratch.path.parent == tmp_path / name
    with opened(tmp_path) as scratch:
        assert scratch.path.parent == tmp_path
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    with opened() as scratch:
        assert scratch.path.parent == Path("/tmp")
    assert "SCRATCH" not in VARIABLES and "JOBSCRATCH" not in VARIABLES


@pytest.mark.parametrize("kind", ["missing", "file", "dangling", "loop"])
def test_a_root_that_was_asked_for_and_cannot_be_used_is_an_error(tmp_path, kind):
    root = tmp_path / "root"
    if kind == "file":
        root.touch()
    elif kind != "missing":
        root.symlink_to(root if kind == "loop" else tmp_path / "nothing")
    with pytest.raises(OutputError, match=f"the scratch directory {root} cannot be used: ") as caught:
        opened(root)
    assert caught.value.exit_code == 5 and caught.value.on_all_ranks


def test_others_may_not_rename_what_is_in_the_root(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(OutputError, match="other users may rename files in it"):
        opened(tmp_path)
    tmp_path.chmod(0o1777)
    opened(tmp_path).close()


@needs_root
def test_roots_of_other_users(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    with pytest.raises(OutputError, match="it belongs to another user"):
        opened(theirs)
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir()
    link.symlink_to(ours)
    opened(link).close()
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OutputError, match="it is a link that belongs to another user"):
        opened(link)
    assert os.listdir(ours) == []


def test_words_of_the_spec_are_checked():
    for wrong in ({"keep": "perhaps"}, {"stage": "all"}):
        with pytest.raises(SpecError):
            Wishes(**wrong)


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../x", "a/b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with folder_in(tmp_path) as folder:
        for use in (folder.create, folder.open, folder.remove, folder.read, folder.rename):
            with pytest.raises(OutputError, match="no plain file name"):
                use(name)
        with pytest.raises(OutputError, match="no plain file name"):
            folder.write(name, b"")


def test_links_and_second_names_are_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    with folder_in(tmp_path) as folder:
        (folder.path / "link").symlink_to(precious)
        os.link(precious, folder.path / "second")
        os.mkfifo(folder.path / "pipe")
        (folder.path / "below").mkdir()
        for name in ("link", "second", "pipe", "below"):
            with pytest.raises(OutputError):
                folder.open(name)
            with pytest.raises(OutputError, match="cannot write"):
                folder.create(name)
        folder.write("link", b"ours")
        folder.write("second", b"ours")
        assert folder.read("second") == b"ours"
        (folder.path / ".new.part").symlink_to(precious)
        folder.write("new", b"ours")
    assert precious.read_text() == "precious"


@needs_root
def test_files_of_others_are_not_opened(tmp_path):
    with folder_in(tmp_path) as folder:
        folder.write("theirs", b"x")
        os.chown(folder.path / "theirs", NOBODY, NOBODY)
        with pytest.raises(OutputError, match="not a file of this user alone"):
            folder.open("theirs")


@pytest.mark.parametrize("planted", ["link", "directory", "file", "open", "theirs"])
def test_what_stands_at_the_name_is_not_taken(tmp_path, planted):
    if planted == "theirs" and os.geteuid() != 0:
        pytest.skip("only root can play another user")
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    place = tmp_path / "hpcml-x"
    if planted == "link":
        place.symlink_to(target)
    elif planted == "file":
        place.touch()
    else:
        place.mkdir(mode=0o755 if planted == "open" else 0o700)
        if planted == "theirs":
            os.chown(place, NOBODY, NOBODY)
    root = open_root(tmp_path)
    with pytest.raises(OutputError):
        make_folder(root, place)
    if planted != "directory":
        with pytest.raises(OutputError):
            Folder(root, place)
    os.close(root)
    assert os.listdir(target) == []


def test_a_directory_that_is_swapped_for_a_link_is_never_followed(tmp_path):
    target, place, aside = tmp_path / "target", tmp_path / "private", tmp_path / "aside"
    target.mkdir(mode=0o700)
    done = threading.Event()

    def swap():
        # What may be in place at any moment: the directory, nothing, or the link.
        while not done.is_set():
            with contextlib.suppress(OSError):
                os.rename(place, aside)
                os.symlink(target, place)
            with contextlib.suppress(OSError):
                os.unlink(place)
            with contextlib.suppress(OSError):
                os.rename(aside, place)

    root = open_root(tmp_path)
    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        for i in itertools.count():
            if i >= 300 and {"refused", "written"} <= outcomes:
                break
            try:
                folder = make_folder(root, place)
            except OutputError:
                outcomes.add("refused")
                with contextlib.suppress(OutputError):
                    folder = Folder(root, place)
                    os.close(folder.create(f"file{i}"))
                    folder.close()
                    outcomes.add("written")
            else:
                outcomes.add("made")
                folder.close()
    finally:
        done.set()
        thread.join()
        os.close(root)
    assert os.listdir(target) == []


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("n_nodes", [1, 2, 3])
def test_a_directory_a_node(ours, size, n_nodes):
    def program(comm):
        comm = Nodes(comm, n_nodes)
        with opened(comm=comm) as scratch:
            place = str(scratch.path)
            assert scratch.folder.identity == [scratch.path.stat().st_dev, scratch.path.stat().st_ino]
            comm.allgather(None)
        comm.allgather(None)
        return place

    places = run_threads(size, program)
    assert len(set(places)) == min(size, n_nodes)
    assert all(place == places[rank % n_nodes] for rank, place in enumerate(places))
    assert os.listdir(ours) == []


@pytest.mark.parametrize(("stage", "needed"), [("shard", 400), ("copy", 1200)])
def test_the_limit_is_a_nodes_and_one_node_without_room_decides_for_all(ours, stage, needed):
    said = []

    def program(comm):
        # Node 0 has ranks 0, 2, 4; node 1 has 1 and 3.
        scratch = opened(
            comm=Nodes(comm, 2), said=said, limit=1199, stage=stage, needed_bytes=needed, job="j"
        )
        assert scratch is None
        comm.allgather(None)

    run_threads(5, program)
    assert len(said) == 1 and "1,200 bytes on a node and scratch.limit is 1,199" in said[0]
    assert os.listdir(ours) == []
    for allowed in (opened(limit=1200, needed_bytes=1200), opened(needed_bytes=1200)):
        allowed.close()


def test_no_room_is_a_warning(ours, monkeypatch):
    said = []
    assert opened(said=said, needed_bytes=1 << 60) is None
    assert "bytes and" in said[0] and "left" in said[0]
    monkeypatch.setattr(scratch_module, "_is_in_memory", lambda root: True)
    monkeypatch.setattr(scratch_module, "available_bytes", lambda: 999)
    assert opened(said=said) is None
    assert said[1].endswith(f"they take 1,000 bytes and {ours} has 999 left")
    assert os.listdir(ours) == []


def test_storage_in_memory_is_recognised():
    root = os.open("/", os.O_RDONLY)
    shared = os.open("/dev/shm", os.O_RDONLY)
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    assert scratch_module._is_in_memory(root) == (kinds.get("/") == "tmpfs")
    assert scratch_module._is_in_memory(shared) == (kinds.get("/dev/shm") == "tmpfs")
    os.close(root)
    os.close(shared)


def test_writing_without_room_is_told_apart(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    handle = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(NoRoomError, match="no space left on the device"):
        write_all(handle, b"x", 0, tmp_path)
    os.close(handle)
    with pytest.raises(OutputError, match="Bad file descriptor"):
        write_all(handle, b"x", 0, tmp_path)


def test_a_root_that_no_variable_gives_is_a_warning(ours, monkeypatch):
    said = []
    monkeypatch.setattr(scratch_module, "open_root", _refusing)
    assert opened(said=said) is None
    assert said == [scratch_module._WARNING.format("it rains")]


def _refusing(path):
    raise OutputError("it rains")


@pytest.mark.parametrize(
    ("keep", "failed", "stays"),
    [
        ("never", False, False),
        ("never", True, False),
        ("on_failure", False, False),
        ("on_failure", True, True),
        ("always", False, True),
        ("always", True, True),
    ],
)
def test_what_stays_at_the_end(ours, keep, failed, stays):
    with contextlib.suppress(ValueError), opened(keep=keep) as scratch:
        scratch.folder.write("file", b"x")
        if failed:
            raise ValueError
    scratch.close()
    assert len(os.listdir(ours)) == stays
    assert sweep(ours) == []  # we live


LEAVING = """
import os, sys
from pathlib import Path
from hpcml.collectives import SerialCommunicator
from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch
wishes = Wishes(Path(sys.argv[1]), keep=sys.argv[2])
scratch = open_scratch(SerialCommunicator(), wishes, Purpose("d", 1), print)
(scratch.path / "file").write_text("x" * 5000)
sys.stdout.write(str(scratch.path))
sys.stdout.flush()
if sys.argv[3] == "fork" and not os.fork():
    sys.exit()  # a child has no part in it
if sys.argv[3] == "fork":
    os.wait()
    assert scratch.path.exists()
if sys.argv[3] == "wait":
    sys.stdin.read()
if sys.argv[3] == "die":
    os._exit(1)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What a process that ended without a word left."""
    root = tmp_path_factory.mktemp("ended")
    done = harness.run_job([sys.executable, "-c", LEAVING, str(root), "never", "die"], check=1)
    return Path(done.stdout)


@pytest.fixture
def leave(ended):
    """`leave(root, keep)`: have what a process that is gone left below a root."""
    numbers = itertools.count()

    def copy(root, keep="never"):
        left = shutil.copytree(ended, root / f"{ended.name}{next(numbers)}")
        rewritten(left, keep=keep)
        return left

    return copy


@pytest.mark.parametrize("how", ["exit", "fork"])
def test_a_process_that_ends_in_order_removes_it(tmp_path, how):
    harness.run_job([sys.executable, "-c", LEAVING, str(tmp_path), "never", how], check=0)
    assert os.listdir(tmp_path) == []


def test_what_a_dead_process_left_is_removed_by_the_next_start(tmp_path, leave):
    left = leave(tmp_path)
    assert left.is_dir()
    with opened(tmp_path, data="others") as scratch:
        assert os.listdir(tmp_path) == [scratch.path.name]
    left = leave(tmp_path)
    assert sweep(tmp_path) == [left]
    assert os.listdir(tmp_path) == []


def test_a_living_owner_keeps_it_also_from_an_attempt_at_the_same_rows(tmp_path):
    env = harness.clean_environment()
    argv = [sys.executable, "-c", LEAVING, str(tmp_path), "never", "wait"]
    other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        place = other.stdout.read(len(str(tmp_path)) + 20)
        assert place.startswith(str(tmp_path).encode())
        (left,) = tmp_path.iterdir()
        assert sweep(tmp_path) == []
        with opened(tmp_path) as scratch:
            assert scratch.path != left
        assert left.exists()
        other.kill()
        other.wait()
        sweep(tmp_path)
        assert not left.exists()
    finally:
        other.kill()
        other.communicate()


def rewritten(left, **changes):
    owner = json.loads((left / OWNER).read_text())
    (left / OWNER).write_text(json.dumps({**owner, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"keep": "always"},
        {"keep": "on_failure"},
        {"format": 2},
        {"uid": 12345},
        {"pid": "1"},
        {"boot": ""},
        {"more": 1},
        "pid of a living process",
        "broken",
        "none",
        "no lock",
        "locked",
        "open to others",
        "another name",
        "a link",
        "a directory inside",
        "a link for its owner",
    ],
)
def test_what_is_not_certain_stays(tmp_path, changes, leave):
    left = leave(tmp_path)
    root = tmp_path
    lock = None
    if isinstance(changes, dict):
        rewritten(left, **changes)
    elif changes == "pid of a living process":
        pid = os.getpid()
        rewritten(left, pid=pid, start=sweep_module._start_of(pid))
    elif changes == "broken":
        (left / OWNER).write_text("{")
    elif changes == "none":
        (left / OWNER).unlink()
    elif changes == "no lock":
        (left / "lock").unlink()
    elif changes == "locked":
        handle = open_root(tmp_path)
        lock = Folder(handle, left)
        os.close(handle)
        assert lock.lock(alone=False)
    elif changes == "open to others":
        left.chmod(0o750)
    elif changes == "another name":
        left = left.rename(tmp_path / "hpcml-results")
    elif changes == "a link":
        root = tmp_path / "root"
        root.mkdir()
        (root / left.name).symlink_to(left)
    elif changes == "a directory inside":
        (left / "not a file").mkdir()
    elif changes == "a link for its owner":
        (left / OWNER).rename(tmp_path / "owner")
        (left / OWNER).symlink_to(tmp_path / "owner")
    before = sorted(left.iterdir())
    assert sweep(root) == []
    assert sorted(left.iterdir()) == before and (left / "file").exists()
    if lock is not None:
        lock.close()
        assert sweep(root) == [left]


@needs_root
def test_directories_of_others_stay(tmp_path, leave):
    left = leave(tmp_path)
    os.chown(left, NOBODY, NOBODY)
    assert sweep(tmp_path) == []
    assert (left / "file").exists()


@needs_root
def test_other_file_systems_stay(tmp_path, leave):
    left, other = leave(tmp_path), leave(tmp_path.parent)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", left], check=False).returncode:
        pytest.skip("mounting needs more than root here")
    try:
        shutil.copytree(other, left, dirs_exist_ok=True)
        assert sweep(tmp_path) == []
        assert len(list(left.iterdir())) == 3
    finally:
        subprocess.run(["umount", "-l", left], check=True)


def test_another_boot_and_a_pid_that_was_given_again_are_dead(tmp_path, leave):
    left = leave(tmp_path)
    rewritten(left, pid=os.getpid(), boot="another")
    assert sweep(tmp_path) == [left]
    left = leave(tmp_path)
    rewritten(left, pid=os.getpid())
    assert sweep(tmp_path) == [left]


def test_links_inside_are_removed_and_not_followed(tmp_path, leave):
    root = tmp_path / "root"
    root.mkdir()
    left = leave(root)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (left / "link").symlink_to(precious)
    assert sweep(root) == [left]
    assert (precious / "file").exists()


def test_two_sweeps_at_once(tmp_path, leave):
    left = {leave(tmp_path) for _ in range(20)}
    found = run_threads(4, lambda comm: sweep(tmp_path))
    assert sorted(path for paths in found for path in paths) == sorted(left)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ("never", "never", True),
        ("never", "always", True),
        ("on_failure", "on_failure", True),
        ("always", "always", True),
        ("always", "never", False),
        ("on_failure", "never", False),
    ],
)
def test_an_attempt_at_the_same_rows_takes_over_what_was_left(tmp_path, before, now, taken, leave):
    left = leave(tmp_path, keep=before)
    with opened(tmp_path, keep=now, job="next", attempt=2) as scratch:
        assert scratch.path.name.startswith(f"hpcml-{os.geteuid()}-next-2-")
        assert (scratch.path / "file").exists() is taken
        assert left.exists() is not taken
        owner = read_owner(scratch.folder)
        assert owner is not None and owner.pid == os.getpid() and not owner.is_gone()
        assert sweep(tmp_path) == []


def test_what_was_left_counts_as_room_and_goes_if_there_is_none(tmp_path, monkeypatch, leave):
    leave(tmp_path)
    monkeypatch.setattr(scratch_module, "_room", lambda root: 1000)
    with opened(tmp_path, needed_bytes=6000) as scratch:
        assert (scratch.path / "file").exists()
    leave(tmp_path)
    assert opened(tmp_path, needed_bytes=600000) is None
    assert os.listdir(tmp_path) == []


def test_ranks_that_see_another_directory_stream(ours, monkeypatch):
    said = []
    path = scratch_module._following
    other = ours / "other"
    other.mkdir(mode=0o700)
    monkeypatch.setattr(scratch_module, "_following", lambda place, identity: path(place, [0, 0]))

    def program(comm):
        assert opened(comm=comm, said=said) is None

    run_threads(3, program)
    assert "is not the directory that the first rank of its node made" in said[0]
    assert os.listdir(ours) == ["other"]


def test_a_node_that_cannot_leaves_nothing_on_the_others(ours, monkeypatch):
    lead = scratch_module._leading
    program_rank = threading.local()

    def leading(*args):
        if program_rank.value == 1:
            raise OutputError("node 1 has no such directory")
        return lead(*args)

    monkeypatch.setattr(scratch_module, "_leading", leading)

    def program(comm):
        program_rank.value = comm.rank
        with pytest.raises(OutputError, match="node 1 has no such directory"):
            opened(ours, comm=Nodes(comm, 2))

    run_threads(3, program)
    assert os.listdir(ours) == []


def test_who_looks_for_a_moment_keeps_nobody_from_the_lock(tmp_path):
    with folder_in(tmp_path) as folder:
        root = open_root(tmp_path)
        other = Folder(root, folder.path)
        assert not other.lock(alone=True)
        folder.close()
        assert other.lock(alone=True)
        third = Folder(root, other.path)
        release = threading.Timer(0.05, other.close)
        release.start()
        assert third.lock(alone=False)
        release.join()
        third.close()
        os.close(root)


def test_a_job_on_three_ranks(spmd, tmp_path):
    program = """
    import sys
    from pathlib import Path
    from hpcml.collectives import world
    from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch
    comm = world()
    with open_scratch(comm, Wishes(Path(sys.argv[1])), Purpose("d", 1), print) as scratch:
        assert len(set(comm.allgather(str(scratch.path)))) == 1
        assert len(list(Path(sys.argv[1]).iterdir())) == 1
        comm.allgather(None)
    sys.stdout.write("done\\n")
    """
    root = tmp_path / "root"
    root.mkdir()
    assert spmd(3, program, root, check=0).lines == ["done"] * 3
    assert os.listdir(root) == []
    refused = spmd(3, program, tmp_path / "missing", check=5)
    assert refused.stderr.count("cannot be used: no such file or directory") == 1
