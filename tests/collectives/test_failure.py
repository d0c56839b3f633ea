"""A rank that fails ends the job within seconds, says why once, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import harness
import pytest

SECONDS = 30.0  # an end, not a wait: a watchdog would speak after 60
START = """
    import os, signal, sys, threading, time
    number = int(os.environ["PMI_RANK"])
    import hpcml
    {early}
    import numpy as np
    from hpcml.collectives import agreed, world
    from hpcml.errors import DataError
    comm = world()
    {late}
    comm.allreduce(np.ones(2))
    print("went on")
"""


def program(early="pass", late="pass"):
    return textwrap.dedent(START).format(early=early, late=late)


def ended(done):
    assert done.returncode != 0, done.describe()
    assert done.seconds < SECONDS, done.describe()
    assert done.survivors == ()
    assert "went on" not in done.stdout
    return done


RAISED = {
    "before MPI": program(early="if number == 1: raise ValueError('torn mount')"),
    "before MPI, the others never come": program(
        early="if number == 1: raise ValueError('torn mount')\nelse: time.sleep(60)"
    ),
    "after MPI": program(late="if number == 1: raise ValueError('torn mount')"),
    "in a thread": program(
        late="def fail(): raise ValueError('torn mount')\n"
        "if number == 1:\n    threading.Thread(target=fail).start()\n    time.sleep(60)"
    ),
    "in agreed": program(late="with agreed(comm):\n    if number == 1: raise ValueError('torn mount')"),
}


@pytest.mark.parametrize("text", RAISED.values(), ids=RAISED)
def test_an_exception(spmd, text):
    done = ended(spmd(3, text, timeout=20))
    assert done.stderr.count("ValueError: torn mount") == 1
    assert done.stderr.count("Traceback") == 1
    assert "rank 1: ValueError: torn mount" in done.stderr


LEFT = {
    "before MPI": program(early="if number == 1: sys.exit(3)"),
    "after MPI": program(late="if number == 1: sys.exit(3)"),
    "while handling an error": program(
        late="try:\n    1 / (number - 1)\nexcept ZeroDivisionError:\n    sys.exit(3)"
    ),
}


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_one_rank_that_exits(spmd, text):
    done = ended(spmd(3, text, timeout=20))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_sentence_given_to_exit(spmd):
    done = ended(spmd(3, program(late="if number == 1: sys.exit('no more')"), timeout=20))
    assert done.stderr.count("no more") == 1


@pytest.mark.parametrize("where", ["early", "late"])
def test_ranks_that_exit_together_do_so_in_peace(spmd, where):
    done = ended(spmd(3, program(**{where: "sys.exit(2)"}), timeout=20))
    assert done.returncode == 2
    assert "Abort" not in done.stderr


@pytest.mark.parametrize(
    "late",
    [
        "try: sys.exit(3)\nexcept SystemExit: pass",
        "thread = threading.Thread(target=sys.exit, args=(3,)); thread.start(); thread.join()",
        "if comm.allreduce(np.ones(1))[0] == 3: print('went on'); sys.exit(0)",
        "if comm.allreduce(np.ones(1))[0] == 3: print('went on'); sys.exit()",
    ],
)
def test_an_exit_that_is_none(spmd, late):
    done = spmd(3, program(late=late), timeout=20, check=0)
    assert done.stdout.count("went on") == 3


def test_an_error_that_all_ranks_raise_is_one_sentence_and_its_code(spmd):
    text = program(late="with agreed(comm):\n    if number == 1: raise DataError('row 7 is NaN')")
    done = ended(spmd(3, text, timeout=20))
    assert done.returncode == 3
    assert done.stderr.count("row 7 is NaN") == 1
    assert "Traceback" not in done.stderr
    assert "Abort" not in done.stderr


def test_an_error_wrongly_said_to_be_on_all_ranks_ends_the_job_too(spmd):
    late = "from hpcml.errors import shared\nif number == 1: raise shared(DataError('row 7 is NaN'))"
    assert ended(spmd(3, program(late=late), timeout=20)).returncode == 3


def test_a_report_that_fails_does_not_keep_the_job_alive(spmd):
    late = (
        "from hpcml.collectives.abort import on_failure\n"
        "on_failure(lambda error, text: 1 / 0)\n"
        "if number == 1: raise ValueError('first')"
    )
    ended(spmd(3, program(late=late), timeout=20))


def test_a_report_may_ask_for_silence(spmd):
    late = (
        "from hpcml.collectives.abort import on_failure\n"
        "on_failure(lambda error, text: print('noted', error) is not None)\n"
        "if number == 1: raise ValueError('first')"
    )
    done = ended(spmd(3, program(late=late), timeout=20))
    assert done.stdout == "noted first\n"
    assert "Traceback" not in done.stderr


def test_a_killed_rank(spmd):
    ended(spmd(3, program(late="if number == 1: os.kill(os.getpid(), signal.SIGKILL)"), timeout=20))


@pytest.mark.parametrize("whom", ["mpiexec", "all that is not a rank"])
def test_a_killed_launcher(tmp_path, whom):
    script = tmp_path / "waits.py"
    late = (
        "open(f'{sys.argv[1]}/{number}.part', 'w').write(str(os.getpid()))\n"
        "os.rename(f'{sys.argv[1]}/{number}.part', f'{sys.argv[1]}/{number}')\n"
        "if number == 1: time.sleep(60)"
    )
    script.write_text(program(late=late))
    tag = uuid.uuid4().hex
    launcher = subprocess.Popen(
        [harness.find_mpiexec(), "-n", "3", sys.executable, str(script), str(tmp_path)],
        env={**harness.clean_environment(), harness.TAG: tag},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("[0-9]"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ranks = {int(path.read_text()) for path in tmp_path.glob("[0-9]")}
        launchers = {launcher.pid} if whom == "mpiexec" else set(harness.tagged_processes(tag)) - ranks
        for pid in launchers:
            os.kill(pid, signal.SIGKILL)
        launcher.wait()
        deadline = time.monotonic() + SECONDS
        while (alive := harness.tagged_processes(tag)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert alive == ()
    finally:
        launcher.kill()
        for pid in harness.tagged_processes(tag):
            os.kill(pid, signal.SIGKILL)


def test_the_hook_is_on_from_the_first_line_and_only_under_a_launcher():
    code = "import hpcml, sys; print(sys.excepthook.__module__, sys.exit.__module__, 'numpy' in sys.modules)"
    hooked = "hpcml.collectives.abort " * 2 + "False"
    for env, expected in (({}, "sys sys False"), ({"PMI_RANK": "0"}, hooked)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=harness.clean_environment(env),
            cwd=harness.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == expected.split()
