"""Run the command lines of a JSON file one after the other, as one rank of an MPI job or alone.

    commands.py COMMANDS.json FOLDER

Writes FOLDER/rankR.json: exit code, standard output, standard error and seconds of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
from pathlib import Path

from hpcml.cli import main, ranks, run
from hpcml.collectives import abort
from hpcml.collectives.launch import launched_rank


def execute(argv: list[str]) -> tuple[int, str, str, float]:
    out, err = io.StringIO(), io.StringIO()
    begin = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as end:  # argparse
            code = end.code
    logging.getLogger("hpcml").handlers.clear()
    abort._before_abort.clear()
    return code, out.getvalue(), err.getvalue(), time.monotonic() - begin


def program(todo: Path, folder: Path) -> None:
    run.one_blas_thread()  # once: NumPy is there when the second command begins
    run.one_blas_thread = ranks.one_blas_thread = lambda spec=None: None
    rank = launched_rank() or 0
    ended = []
    for argv in json.loads(todo.read_text()):
        if rank == 0:
            # If a command ends the job, this says which.
            sys.stderr.write(f"{' '.join(argv)}\n")
        ended.append(execute(argv))
    (folder / f"rank{rank}.json").write_text(json.dumps(ended))


program(Path(sys.argv[1]), Path(sys.argv[2]))
