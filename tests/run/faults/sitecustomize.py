"""Makes one rank of a job go wrong, or tells what a rank has imported. Read by Python when it starts.

HPCML_TEST_FAULT is JSON: {"where": "module:name", "rank": r, "call": n, "action": A} lets the n-th call of
a function on rank r raise ("raise"), be killed ("kill") or stop for ever after it has done its work ("stop"),
wait for a command of another process first ("command", with "command": ARGV), or raise an OSError as often as
"times" says ("errno", with "errno": NUMBER). With "thread": NAME only calls in a thread of this name count;
{"modules": FOLDER} lets each rank write the modules that it has imported, and its threads, when it ends.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

FAULT = json.loads(os.environ["HPCML_TEST_FAULT"])
RANK = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "-1")))


def plant() -> None:
    """Replace a function by one that goes wrong."""
    module_name, _, name = FAULT["where"].partition(":")
    owner = importlib.import_module(module_name)
    *outer, name = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = iter(range(1, 1 << 30))

    def faulty(*args, **keywords):
        counts = FAULT.get("thread") in (None, threading.current_thread().name)
        first, number = FAULT.get("call", 1), next(calls) if counts else 0
        wrong = first <= number < first + FAULT.get("times", 1)
        if wrong and FAULT["action"] == "raise":
            raise RuntimeError("a bug was planted here")
        if wrong and FAULT["action"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if wrong and FAULT["action"] == "command":
            subprocess.run(FAULT["command"], check=True)
        if wrong and FAULT["action"] == "errno":
            raise OSError(FAULT["errno"], os.strerror(FAULT["errno"]))
        result = original(*args, **keywords)
        if wrong and FAULT["action"] == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, faulty)


def tell(folder: str) -> None:
    """Write what this rank has imported, and how many threads its BLAS has."""
    from threadpoolctl import threadpool_info

    found = {
        "modules": sorted(sys.modules),
        "threads": [lib["num_threads"] for lib in threadpool_info()],
        "before_numpy": BEFORE,
    }
    Path(folder, f"rank{RANK}.json").write_text(json.dumps(found))


class Watcher:
    """Notes the environment at the first import of NumPy."""

    def find_spec(self, name, path=None, target=None):
        if name == "numpy" and not BEFORE:
            BEFORE.append(os.environ.get("OMP_NUM_THREADS"))


BEFORE: list[str | None] = []
if RANK >= 0 and "modules" in FAULT:
    sys.meta_path.insert(0, Watcher())
    atexit.register(tell, FAULT["modules"])
if RANK >= 0 and FAULT.get("rank") == RANK:
    import hpcml.cli.run as entry

    begin = entry.one_blas_thread

    def begin_and_plant(spec=None):
        begin(spec)
        plant()  # NumPy may be imported from here on

    entry.one_blas_thread = begin_and_plant
