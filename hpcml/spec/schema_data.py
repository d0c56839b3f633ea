"""The keys of `data` and `preprocessing`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from hpcml.spec.fields import Misfit, key, schema, section
from hpcml.spec.kinds import (
    Kind,
    Mismatch,
    boolean,
    choice,
    integer,
    list_of,
    map_of,
    number,
    number_of,
    optional,
    refuse,
    scalar,
    text,
)
from hpcml.spec.schema_generate import Generate
from hpcml.spec.tree import Scalar, Tree
from hpcml.spec.units import auto_or, files, limit, share_or_path, size, sources

__all__ = [
    "STEPS",
    "Columns",
    "Data",
    "DataIO",
    "Partition",
    "Rows",
    "Split",
    "Standardize",
    "Step",
    "Target",
]

_NAME = text(name="a name")
_NAMES = list_of(_NAME, distinct=True)


def _label() -> Kind:
    """Return the kind of what a raw value is mapped to: a number, or a label."""

    def read(node: Tree) -> float | str:
        word = scalar(node, "a number or a label", words=True)
        numeric = isinstance(node, Scalar) and node.tag in ("int", "float")
        try:
            return float(number_of(node, "a number or a label"))
        except Mismatch:
            if numeric:
                raise
        if not word:
            refuse(node, "a number or a label")
        return str(_NAME.read(node))

    return Kind("number or label", read)


@schema
class Target:
    """The target column of a table and how its raw values become numbers."""

    column: str = key(_NAME, doc="target column for tables")
    threshold: float | None = key(optional(number()), None, doc="1 where the value is above, 0 elsewhere")
    map: Mapping[str, float | str] | None = key(
        optional(map_of(_label(), name="map of raw value to number or label")),
        None,
        doc="number or label of each raw value",
    )

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse two rules for one column."""
        if values["threshold"] is not None and values["map"] is not None:
            raise Misfit("map", "threshold and map exclude each other; write one of the two")
        if values["map"] is not None and not values["map"]:
            raise Misfit("map", "the map is empty; write raw values and what they become")


@schema
class Columns:
    """Roles of the columns of a table."""

    include: tuple[str, ...] = key(_NAMES, (), doc="columns to use; all when empty")
    exclude: tuple[str, ...] = key(_NAMES, (), doc="columns to leave out")
    numeric: tuple[str, ...] = key(_NAMES, (), doc="columns to read as numbers")
    categorical: tuple[str, ...] = key(_NAMES, (), doc="columns to read as categories")
    text: tuple[str, ...] = key(_NAMES, (), later=True, doc="columns to read as text")

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse a column with two roles that contradict."""
        for left, right in (("include", "exclude"), ("numeric", "categorical")):
            for name in values[left]:
                if name in values[right]:
                    raise Misfit(
                        right, f"{name!r} stands in {left} and in {right}; keep it in one of the two"
                    )


@schema
class Rows:
    """Which rows of the data are used."""

    start: int | None = key(optional(integer("[0, inf)")), None, doc="first row")
    stop: int | None = key(optional(integer("[1, inf)")), None, doc="row after the last one")
    fraction: float = key(number("(0, 1]"), 1.0, doc="share of the rows, chosen by hash")

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse an empty range."""
        if values["stop"] is not None and values["stop"] <= (values["start"] or 0):
            raise Misfit(
                "stop",
                f"rows {values['start'] or 0} to {values['stop']} are none; write a stop above the start",
            )


@schema
class Split:
    """How the test part is chosen; `test` is a path just when the method is file, and 0 when it is none."""

    method: str = key(
        choice("hash", "file", "none", later=("column",)), "hash", doc="how the test part is chosen"
    )
    test: float | Path = key(share_or_path(), 0.2, doc="share of the test part, or a separate file")
    validation: float | Path = key(share_or_path(), 0.0, later=True, doc="share of the validation part")
    stratify: bool = key(boolean(), False, later=True, doc="keep the shares of the classes")

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Fit `test` to the method."""
        method, test = values["method"], values["test"]
        if method == "file" and not isinstance(test, Path):
            raise Misfit("test", "method: file needs the test file; write its path, as in test: test.h5")
        if method != "file" and isinstance(test, Path):
            raise Misfit(
                "test", f"a path does not fit method: {method}; write a share in [0, 1) or method: file"
            )
        if method == "none":
            if "test" in given and test != 0.0:
                raise Misfit("test", "method: none has no test part; leave test out or write method: hash")
            values["test"] = 0.0


@schema
class Partition:
    """The sizes of blocks and shards: functions of the data, never of the number of ranks."""

    shard_bytes: int | Literal["auto"] = key(
        auto_or(size()), "auto", doc="size of a shard, owned whole by a rank"
    )
    block_rows: int | Literal["auto"] = key(auto_or(integer("[1, inf)")), "auto", doc="rows of a block")


@schema
class DataIO:
    """How the data file is read."""

    driver: str = key(choice("auto", "independent", "mpio"), "auto", doc="how ranks open the file")
    collective: bool = key(boolean(), False, later=True, doc="collective MPI-IO reads")
    prefetch: int = key(integer("[0, 64]"), 2, doc="read units ahead")
    chunk_cache: int = key(size(), 64 << 20, doc="chunks kept of those that a read unit cuts")
    untrusted: bool = key(boolean(), False, doc="open the file first in a child process")


@schema
class Data:
    """The training data: where it is, what is used of it, how it is split and cut."""

    path: tuple[Path, ...] = key(files(), doc="training data, the rows of several files one after another")
    source: tuple[str, ...] = key(sources(), (), doc="raw tables, converted to data.path when that is absent")
    format: str = key(
        choice("auto", "hdf5", "csv", "parquet", "npy", "libsvm", "jsonl", "generated", later=("text",)),
        "auto",
        doc="format of the file",
    )
    x: str = key(_NAME, "X", doc="HDF5 dataset or group of the features")
    y: str | None = key(optional(_NAME), "y", doc="HDF5 dataset of the target; none for clustering")
    weight: str | None = key(optional(_NAME), None, doc="dataset of the row weights")
    offset: str | None = key(optional(_NAME), None, doc="dataset of what is added to x . w + b")
    exposure: str | None = key(
        optional(_NAME), None, doc="dataset of exposures: offsets are their logarithms"
    )
    groups: str | None = key(optional(_NAME), None, later=True, doc="dataset of the row groups")
    target: Target | None = section(
        Target, optional=True, shorthand="column", doc="target column for tables, with threshold or map"
    )
    columns: Columns = section(Columns, doc="roles of the columns of a table")
    layout: str = key(choice("auto", "dense", "csr"), "auto", doc="layout of the blocks")
    dtype: str = key(choice("float64", "float32"), "float64", doc="type of the blocks in memory")
    rows: Rows = section(Rows, doc="which rows are used")
    missing: str = key(
        choice("error", "mean", "median", "most_frequent", "drop", "indicator"),
        "error",
        doc="what to do with missing values",
    )
    split: Split = section(Split, doc="how the test part is chosen")
    partition: Partition = section(Partition, doc="sizes of blocks and shards")
    io: DataIO = section(DataIO, doc="how the file is read")
    cache: str = key(
        choice("auto", "memory", "scratch", "none"), "auto", doc="where blocks live between passes"
    )
    memory_limit: float | int = key(limit(), 0.6, doc="of the least rank's share (fraction), or bytes")
    allow_external: bool = key(boolean(), False, doc="follow links out of the file")
    generate: Generate | None = section(Generate, optional=True, doc="what format: generated makes")

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Fit what is generated to the format, and let no tables stand beside it."""
        kind, generate = values["format"], values["generate"]
        if values["offset"] is not None and values["exposure"] is not None:
            raise Misfit("exposure", "offset and exposure exclude each other; write one of the two")
        if kind == "generated" and generate is None:
            raise Misfit(
                "format",
                "generated needs data.generate, as in generate: {kind: blobs, rows: 1000, features: 5}",
            )
        if generate is not None and kind not in ("auto", "generated"):
            raise Misfit("generate", f"does not fit format: {kind}; write format: generated")
        if generate is not None and values["source"]:
            raise Misfit("generate", "data.source names tables for the same file; leave one of the two out")
        if generate is not None and len(values["path"]) > 1:
            raise Misfit("path", "data.generate makes one file; write one path")


@schema
class Standardize:
    """Subtract the mean and divide by the deviation of each column."""

    name: ClassVar[str] = "standardize"

    with_mean: bool | Literal["auto"] = key(
        auto_or(boolean()), "auto", doc="subtract the mean (auto: not for csr)"
    )
    with_std: bool = key(boolean(), True, doc="divide by the standard deviation")


Step = Standardize

STEPS: Mapping[str, type[Any] | None] = {
    "standardize": Standardize,
    **dict.fromkeys(
        (
            "minmax",
            "maxabs",
            "robust",
            "normalize",
            "impute",
            "one_hot",
            "ordinal",
            "hash_text",
            "hash_columns",
            "tfidf",
            "polynomial",
            "random_projection",
            "pca",
            "truncated_svd",
            "select",
            "python",
        )
    ),
}
