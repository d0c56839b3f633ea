"""A model file and the rows that it works on; its metrics on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpcml.algorithms.metrics import Scores
from hpcml.algorithms.survey import survey
from hpcml.collectives import Communicator, agreed
from hpcml.data import RowSelection
from hpcml.errors import DataError, SpecError, shared
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.model import read_model
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import open_table
from hpcml.run.families import family_of
from hpcml.run.inputs import names_of
from hpcml.spec.schema_model import EXTRA_METRICS, METRICS, TASKS, UNLABELLED

__all__ = ["Rows", "Trained", "evaluate_model", "open_for_model"]


class Trained(NamedTuple):
    """A model, and what its file says of it."""

    model: Any
    about: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Which rows of which file.

    Parameters
    ----------
    path : Path
    x : str
    y : str or None
    part : {"all", "train", "test"}
        Of the split that the model was trained with.
    offset, exposure : str or None
        One of them for a model that was trained with one.
    """

    path: Path
    x: str = "X"
    y: str | None = "y"
    part: str = "all"
    offset: str | None = None
    exposure: str | None = None

    @property
    def columns(self) -> Columns:
        """What the columns are called. Local."""
        return Columns(self.x, self.y, None, self.offset, self.exposure)


def open_for_model(
    comm: Communicator, path: Path, rows: Rows, cache: str = "auto"
) -> tuple[Trained, HDF5Dataset]:
    """Read a model file and open rows for it, cut as those that it was trained on.

    Collective, six to nine small messages. The data set is the caller's to close.

    Parameters
    ----------
    comm : Communicator
    path : Path
        The model file.
    rows : Rows
    cache : {"auto", "memory", "none"}

    Raises
    ------
    SpecError
        A part of a split that the model was not trained with, or no offset for one that has them.
    DataError
        Model or rows cannot be used, or differ in columns.
    """
    with agreed(comm):
        file = _load(path)
        selection = _selection(file, rows.part)
        _check_offset(path, file, rows)
    spec = file.about["spec"]["data"]
    columns = rows.columns._replace(y=None) if TASKS[file.model.kind] in UNLABELLED else rows.columns
    table = open_table(comm, [rows.path], columns, spec["dtype"])
    data = HDF5Dataset(table, comm=comm, selection=selection, layout=_layout(spec["partition"], cache))
    n_features = file.model.n_features
    if data.n_features != n_features:
        data.close()
        sentence = f"{rows.path}:{rows.x} has {data.n_features} columns and the model {path} has {n_features}"
        raise shared(DataError(sentence))
    return file, data


def _load(path: Path) -> Trained:
    file = read_model(path)
    kind = str(file.about["kind"])
    try:
        return Trained(family_of(kind).load(kind, file.arrays), file.about)
    except KeyError as error:
        raise DataError(f"{path}: is not a model file (it has no {error})") from None


def _check_offset(path: Path, file: Trained, rows: Rows) -> None:
    """Refuse rows without the offset that a model was trained with, and an exposure that is none."""
    if rows.offset is not None and rows.exposure is not None:
        raise SpecError("--offset and --exposure exclude each other; give one of the two")
    data = file.about["spec"]["data"]
    trained = [f"data.{key}: {data[key]}" for key in ("offset", "exposure") if data.get(key)]
    if trained and rows.offset is None and rows.exposure is None:
        sentence = f"{path}: the model was trained with {trained[0]}; name the data set of {rows.path} by"
        raise SpecError(f"{sentence} --offset NAME or --exposure NAME")
    if rows.exposure is not None:
        loss = getattr(file.model, "loss", None)
        if loss is None or not loss.has_log_link:
            raise SpecError(f"--exposure: {path} is no model of the logarithm of the mean; use --offset")


def _layout(partition: dict[str, Any], cache: str) -> Layout:
    """Return the cut of the rows that the model was trained with: the run's own metrics come out again."""
    cut = {name: None if value == "auto" else value for name, value in partition.items()}
    return Layout(cache, shard_bytes=cut["shard_bytes"], block_rows=cut["block_rows"])


def _selection(file: Trained, part: str) -> RowSelection | None:
    if part == "all":
        return None
    spec = file.about["spec"]
    if spec["data"]["split"]["method"] != "hash":
        raise SpecError(f"--part {part}: the model was not trained with a hashed split")
    rows = spec["data"]["rows"]
    return RowSelection(
        spec["seed"], rows["start"] or 0, rows["stop"], rows["fraction"], spec["data"]["split"]["test"], part
    )


def evaluate_model(comm: Communicator, path: Path, rows: Rows, metrics: tuple[str, ...] = ()) -> Scores:
    """Return metrics of a model on rows. Collective: two passes.

    Raises
    ------
    SpecError
        A metric that is unknown or does not fit the model.
    DataError
        Model or rows cannot be used.
    """
    file, data = open_for_model(comm, path, rows)
    with data:
        kind = file.model.kind
        fitting = METRICS[kind] + EXTRA_METRICS.get(kind, ())
        unknown = set(metrics) - set(fitting)
        if unknown:
            raise shared(
                SpecError(f"metric {sorted(unknown)[0]!r} does not fit; choose from {', '.join(fitting)}")
            )
        names = names_of(rows.path, rows.columns)
        survey(data, classes=False, names=names)
        return family_of(kind).evaluate(data, file.model, metrics or METRICS[kind], names.y)
