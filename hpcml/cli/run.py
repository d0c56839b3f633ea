"""Run a spec: convert, fit, certify, measure, save."""

from __future__ import annotations

import argparse
import json
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcml.cli.ranks import add_ranks
from hpcml.cli.terminal import complain, say, speaks, tell
from hpcml.collectives.launch import is_launched
from hpcml.errors import EXIT_NOT_CONVERGED, HpcmlError
from hpcml.resources import jobs_directory
from hpcml.run.checks import check_spec
from hpcml.run.directory import RunDirectory, run_path
from hpcml.run.launch import launch, one_blas_thread, wanted_ranks
from hpcml.spec import Spec, load_spec

if TYPE_CHECKING:
    from hpcml.run.run import Run

__all__ = ["add_outcome", "configure", "execute", "run_spec"]


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add key=value arguments to a verb."""
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="a key of the spec: solver.tol=1e-8"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="the same, spelled out"
    )


def add_outcome(parser: argparse.ArgumentParser) -> None:
    """Add what `run` and `resume` share."""
    add_ranks(parser, "resources.ntasks of the spec")
    parser.add_argument(
        "--json", action="store_true", help="end standard output with result.json as one line"
    )
    parser.add_argument("--require-convergence", action="store_true", help="exit 4 unless tol was certified")
    parser.add_argument(
        "--other-arithmetic",
        action="store_true",
        help="go on where another BLAS or processor began; the bits may differ",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    examples = f"a YAML file; examples are in {jobs_directory()}"
    parser.add_argument("spec", type=Path, metavar="SPEC", help=examples)
    add_overrides(parser)
    add_outcome(parser)


def execute(args: argparse.Namespace) -> int:
    """Run a spec here, on ranks that it starts, or as one of them."""

    def load() -> tuple[Spec, str]:
        spec = load_spec(args.spec, [*args.overrides, *args.set])
        return spec, args.spec.read_text()

    return run_spec(args, load, args.spec.parent)


def run_spec(args: argparse.Namespace, load: Callable[[], tuple[Spec, str]], directory: Path) -> int:
    """Run what `load` gives: a spec and its text."""
    spec, text, problem = None, "", None
    try:
        spec, text = load()
        check_spec(spec)
    except HpcmlError as error:
        problem = error
    if not is_launched():
        if problem is not None or spec is None:
            raise problem or AssertionError
        n = wanted_ranks(spec, args.n)
        if n > 1:
            return launch(spec, n, args.argv, RunDirectory(run_path(spec)))
    return _on_rank(args, spec, text, problem, directory)


def _on_rank(
    args: argparse.Namespace, spec: Spec | None, text: str, problem: HpcmlError | None, directory: Path
) -> int:
    """Be one rank. A problem with the spec is raised where all ranks can take part."""
    one_blas_thread(spec)
    from hpcml.run.provenance import collect

    provenance = {}
    if speaks():  # processes are started before MPI is
        provenance = collect(directory)
        problem = problem or _untrusted(spec)
    from hpcml.collectives import agreed, world
    from hpcml.run.run import Options, Run

    comm = world()
    show = say if spec and spec.output.progress != "none" else lambda line: None
    run = Run(spec, text, comm, provenance, Options(show, args.other_arithmetic)) if spec else None
    if run is not None:
        run.watch()
    with agreed(comm):
        if problem is not None:
            raise problem
    assert run is not None
    try:
        result = run.execute()
    except HpcmlError as error:
        return _failed(run, error, args.debug)
    except (Exception, KeyboardInterrupt) as error:
        if not is_launched():  # under a launcher the abort hook does this
            run.fail(error)
        raise
    if comm.rank == 0:
        _report(args, result)
    return EXIT_NOT_CONVERGED if args.require_convergence and not result["converged"] else 0


def _untrusted(spec: Spec | None) -> HpcmlError | None:
    """Return why a data file that may be crafted is not opened by this process."""
    from hpcml.run.inputs import try_untrusted

    try:
        if spec is not None:
            try_untrusted(spec)
    except HpcmlError as error:
        return error
    return None


def _report(args: argparse.Namespace, result: dict[str, Any]) -> None:
    from hpcml.run.table import render_table

    if args.json:
        tell(json.dumps(result))
    else:
        tell(render_table(result))
    if not result["converged"]:
        other = ", or try another solver.name" if "intercept_gradient" in result else ""
        cure = f"raise solver.max_iter or solver.tol{other}, in another output.dir"
        if result["solver"] == "mini_batch":
            cure = "raise solver.epochs or solver.tol, in another output.dir"
        if not math.isfinite(result["objective"] or math.nan):
            cure = "standardise the features, take smaller steps, or try another solver.name"
        say(f"hpcml: warning: not converged: {result['reason']}; {cure}")


def _failed(run: Run, error: HpcmlError, debug: bool) -> int:
    """Speak once, end all ranks, return the code."""
    from hpcml.collectives.abort import end_job, end_job_after_the_first

    is_first = run.fail(error)
    if is_first:
        complain(str(error))
        if debug:
            say("".join(traceback.format_exception(error)))
    if not error.on_all_ranks:
        (end_job if is_first else end_job_after_the_first)(error.exit_code)
    return error.exit_code
