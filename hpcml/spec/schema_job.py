"""The keys of `resources`, `scratch`, `checkpoint`, `watchdog`, `output` and `hooks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcml.spec.fields import Misfit, key, schema, section
from hpcml.spec.kinds import boolean, choice, fixed, integer, list_of, optional, path, text
from hpcml.spec.units import Cadence, auto_or, cadence, duration, file_or_word, size

__all__ = ["Checkpoint", "Hooks", "Network", "Output", "Resources", "Scratch", "Watchdog"]

_WORD = optional(text(name="a word"))
_LINES = list_of(text(name="a line"))
_MEBIBYTE = 1 << 20
_DIRECTORY = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}"


@schema
class Network:
    """How ranks reach one another."""

    interface: str | None = key(_WORD, None, doc="network interface")
    transport: str = key(
        choice("auto", "ucx", "ofi", "tcp", "shm"), "auto", doc="transport of the MPI library"
    )


@schema
class Resources:
    """What the job asks of the scheduler and the launcher."""

    scheduler: str = key(choice("auto", "slurm", "local"), "auto", doc="who starts the job")
    nodes: int = key(integer("[1, inf)"), 1, doc="number of nodes")
    ntasks_per_node: int = key(integer("[1, inf)"), 1, doc="ranks of a node")
    ntasks: int | None = key(
        optional(integer("[1, inf)")), None, shown="nodes x ntasks_per_node", doc="ranks in total"
    )
    cpus_per_task: int = key(integer("[1, inf)"), 1, doc="processors of a rank")
    threads: int = key(fixed(1), 1, doc="our threads over shards")
    site: str | None = key(_WORD, None, doc="site profile, by name or path")
    signal: str = key(choice("USR1", "USR2", "TERM"), "USR2", doc="what the scheduler sends before the limit")
    stage_env: bool = key(boolean(), False, doc="bring the Python environment to node-local storage")
    mem: int | None = key(optional(size(_MEBIBYTE)), None, doc="memory of a node")
    mem_per_cpu: int | None = key(
        optional(size(_MEBIBYTE)), None, doc="memory of a processor, instead of mem"
    )
    time: float = key(duration(), 3600.0, doc="time limit")
    partition: str | None = key(_WORD, None, doc="Slurm partition")
    account: str | None = key(_WORD, None, doc="Slurm account")
    qos: str | None = key(_WORD, None, doc="Slurm quality of service")
    constraint: str | None = key(_WORD, None, doc="Slurm constraint")
    reservation: str | None = key(_WORD, None, doc="Slurm reservation")
    gres: str | None = key(_WORD, None, doc="Slurm generic resources")
    nodelist: str | None = key(_WORD, None, doc="nodes to use")
    exclude: str | None = key(_WORD, None, doc="nodes to leave out")
    exclusive: bool = key(boolean(), False, doc="whole nodes")
    dependency: str | None = key(_WORD, None, doc="Slurm dependency, as in afterok:ID")
    requeue: bool = key(boolean(), True, doc="run again after a checkpoint")
    max_requeues: int = key(integer("[0, inf)"), 5, doc="most requeues")
    signal_before: float = key(duration(), 120.0, doc="warning before the time limit")
    mail_type: str | None = key(_WORD, None, doc="Slurm mail events")
    mail_user: str | None = key(_WORD, None, doc="Slurm mail address")
    modules: tuple[str, ...] = key(_LINES, (), doc="environment modules to load")
    setup: tuple[str, ...] = key(_LINES, (), doc="shell lines before the run")
    teardown: tuple[str, ...] = key(_LINES, (), doc="shell lines after the run")
    extra: tuple[str, ...] = key(_LINES, (), doc="raw #SBATCH options")
    launcher: str = key(choice("auto", "srun", "mpirun", "mpiexec"), "auto", doc="what starts the ranks")
    launcher_args: tuple[str, ...] = key(_LINES, (), doc="arguments of the launcher")
    bind: str = key(choice("none", "cores", "sockets"), "cores", doc="what ranks are bound to")
    network: Network = section(Network, doc="how ranks reach one another")
    container: str | None = key(_WORD, None, doc="Apptainer image")
    python: str | None = key(_WORD, None, shown="the current one", doc="Python interpreter")

    @property
    def n_ranks(self) -> int:
        """The number of ranks: `ntasks`, or nodes x ntasks_per_node."""
        return self.nodes * self.ntasks_per_node if self.ntasks is None else self.ntasks

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Let one key say the memory."""
        if {"mem", "mem_per_cpu"} <= given:
            raise Misfit("mem_per_cpu", "mem and mem_per_cpu exclude each other; write one of the two")


@schema
class Scratch:
    """Node-local storage, for data.cache: scratch."""

    path: Path | str = key(auto_or(path(absolute=False)), "auto", doc="node-local directory")
    stage: str = key(choice("shard", "copy"), "shard", doc="own rows, or whole files")
    keep: str = key(choice("never", "on_failure", "always"), "never", doc="when it stays")
    limit: int | None = key(optional(size()), None, doc="most bytes on a node; beyond, nothing is staged")


@schema
class Checkpoint:
    """When the state is saved, and whether a run continues from it."""

    every: Cadence | None = key(
        cadence(none=True), Cadence(seconds=600.0), doc="time or iterations between two"
    )
    on_signal: bool = key(boolean(), True, doc="save when the time limit is near")
    keep: int = key(integer("[1, inf)"), 2, doc="checkpoints that stay")
    path: Path | None = key(
        optional(path(absolute=False)),
        None,
        later=True,
        shown="in the run directory",
        doc="where checkpoints are written",
    )
    resume: str | Path = key(file_or_word("auto", "never", "required"), "auto", doc="whether to continue")


@schema
class Watchdog:
    """When a waiting collective names the late rank, and when it ends the job (seconds)."""

    name_after: float = key(duration(), 60.0, doc="when the late rank is named")
    end_after: float = key(duration(), 300.0, doc="when the job is ended")

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse to end a job before the late rank was named."""
        if values["end_after"] < values["name_after"]:
            raise Misfit(
                "end_after" if "end_after" in given else "name_after",
                "the job would end before the late rank is named; write end_after >= name_after",
            )


@schema
class Output:
    """Where results go: `dir`, from the working directory; with `id` null it is the run directory."""

    dir: Path = key(path(absolute=False), Path("runs/${name}"), doc="directory of the results")
    id: str | None = key(
        optional(text(_DIRECTORY, name="a directory name of letters, digits, '.', '_' and '-'")),
        None,
        doc="run directory below dir; null: dir itself",
    )
    overwrite: str = key(choice("never", "same_hash", "always"), "never", doc="what may be replaced")
    model: bool = key(boolean(), True, doc="write model.h5")
    trace: str = key(choice("none", "summary", "full"), "summary", later=True, doc="detail of the time line")
    report: tuple[str, ...] = key(
        list_of(choice("html", "rst", "json"), distinct=True), (), later=True, doc="formats of the report"
    )
    log_level: str = key(choice("debug", "info", "warning", "error"), "info", doc="detail of the log")
    progress: str = key(choice("auto", "none", "bar"), "auto", doc="progress on the terminal")


@schema
class Hooks:
    """Functions of the user, as `module:function`."""

    preload: str | None = key(_WORD, None, later=True, doc="before anything is read")
    on_start: str | None = key(_WORD, None, later=True, doc="before the fit")
    on_end: str | None = key(_WORD, None, later=True, doc="after the fit")
