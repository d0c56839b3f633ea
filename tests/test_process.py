"""Children get our signals, end with us, and give their exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import harness
import pytest

from hpcml.process import capture, run_child

PARENT = """
import os, sys
from hpcml.process import run_child
sys.exit(run_child([sys.executable, "-c", sys.argv[1]], os.environ))
"""


def start(child):
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, child],
        env=harness.clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(75)", 75),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.abort()", 134),
    ],
)
def test_exit_code(child, code):
    assert run_child([sys.executable, "-c", child], os.environ) == code


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    run_child([sys.executable, "-c", "pass"], os.environ)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_environment_is_what_was_given():
    text = "import os, sys; sys.exit('HOME' in os.environ or os.environ['A'] != 'b')"
    assert run_child([sys.executable, "-c", text], {"A": "b"}) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(number):
    text = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(40))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    parent = start(text)
    assert parent.stdout.readline() == "ready\n"
    parent.send_signal(number)
    assert parent.wait(10) == 40


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux alone")
def test_a_child_ends_with_its_parent():
    parent = start("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_die_with_parent():
    text = (
        "import os, subprocess, sys, time\n"
        "code = '''import os, time\n"
        "from hpcml.process import die_with_parent\n"
        "die_with_parent(0.1)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)'''\n"
        "subprocess.Popen([sys.executable, '-c', code])\n"
        "time.sleep(60)\n"
    )
    middle = subprocess.Popen(
        [sys.executable, "-c", text],
        env=harness.clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    child = int(middle.stdout.readline())
    assert alive(child)
    middle.kill()
    middle.wait()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def test_capture():
    assert capture([sys.executable, "-c", "print(' a ')"]) == "a"
    assert capture([sys.executable, "-c", "raise SystemExit(1)"]) is None
    assert capture(["/nowhere/at/all"]) is None
    assert capture([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2) is None
    bytes_only = "import sys; sys.stdout.buffer.write(b'\\xff!')"
    assert capture([sys.executable, "-c", bytes_only]) == "\N{REPLACEMENT CHARACTER}!"
    assert capture([sys.executable, "-c", "import os; print(os.getcwd())"], cwd="/") == "/"
