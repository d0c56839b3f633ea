"""A model's predictions for stored rows, written by all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.model import Model
from hpcml.algorithms.survey import Names, check_block
from hpcml.collectives import Communicator, agreed
from hpcml.data import Block
from hpcml.errors import DataError, SpecError, shared
from hpcml.io.dataset import HDF5Dataset
from hpcml.io.write.predictions import Columns, refuse_other_files, write_predictions
from hpcml.run.families import family_of
from hpcml.run.inputs import columns_of, names_of, open_part
from hpcml.run.parts import Parts
from hpcml.run.trained import Rows, open_for_model
from hpcml.spec import Spec

__all__ = ["predict_rows", "save_predictions", "save_run_predictions"]

Vector = NDArray[np.float64]


def predict_rows(comm: Communicator, path: Path, rows: Rows, output: Path, aligned: bool = False) -> int:
    """Write the predictions of a model and return the number of rows predicted.

    Collective: one pass, and the messages of `write_predictions`.

    Parameters
    ----------
    comm : Communicator
    path : Path
        The model file.
    rows : Rows
    output : Path
    aligned : bool
        Row i of the output is row i of the data; rows that are not of the part have NaN.

    Raises
    ------
    SpecError
        The output would replace the model or the data.
    DataError
        Model or rows cannot be used.
    OutputError
        For want of space, quota or permission, or the output is there and holds something else.
    """
    with agreed(comm):
        for source in (path, rows.path):
            if output.exists() and source.exists() and output.samefile(source):
                raise SpecError(f"-o {output}: would replace {source}, which is read; choose another name")
        refuse_other_files(output)
    file, data = open_for_model(comm, path, rows, cache="none")
    about = {"model": str(path), "data": f"{rows.path}:{rows.x}", "labels": file.about["labels"]}
    with data:
        names = names_of(rows.path, rows.columns)
        save_predictions(data, file.model, output, about, names, aligned=aligned)
        return data.n_samples


def save_predictions(
    data: HDF5Dataset,
    model: Model,
    path: Path,
    about: dict[str, Any],
    names: Names,
    *,
    aligned: bool = False,
) -> None:
    """Write `row` (number in the source) and `prediction`, a class or a mean, for each row.

    With logistic regression also `probability`, of the second class, or (rows, n_classes) of more than two;
    with a support vector classifier `decision`, the distance from its plane in units of the margin.

    Collective: one pass, and the messages of `write_predictions`.

    Parameters
    ----------
    data : HDF5Dataset
    model : LinearModel
    path : Path
    about : dict
        Goes into the file.
    names : Names
    aligned : bool
        As in `predict_rows`.

    Raises
    ------
    DataError
        No rows, or NaN or Inf in them.
    OutputError
        For want of space, quota or permission.
    """
    if data.n_samples == 0:
        raise shared(DataError(f"{names.X}: no rows are left for this part of the split"))
    place = _every_row(data) if aligned else _selected_rows
    none = np.zeros(1, np.int64)
    nothing = _columns(model, Block(np.zeros((0, data.n_features)), None, None, 0, none, none))
    n_rows = data.partition.n_samples if aligned else data.n_samples
    blocks = _predicted(data, model, names, place)
    write_predictions(data.comm, path, blocks, nothing, n_rows, about)


def save_run_predictions(spec: Spec, parts: Parts, model: Model, path: Path) -> None:
    """Write the predictions that a spec asks for: of the test rows, or of all rows that `data.rows` selects.

    Collective: nothing where it asks for none, else the messages of `save_predictions`.
    """
    which, rows, data = spec.evaluation.predictions, parts.rows, parts.test
    if which == "test" and parts.test_rows is not None:
        rows = parts.test_rows
    elif which == "all":
        # The training rows may fill the memory: these pass through it.
        cache = "none" if parts.place.cache == "memory" else parts.place.cache
        data = open_part(spec, parts.train.comm, "all", parts.place.rows, cache)
    if which != "none" and data is not None:
        about = {"model": "model.h5", "data": f"{rows.path}:{spec.data.x}", "labels": rows.labels}
        save_predictions(data, model, path, about, names_of(rows.path, columns_of(spec)))


def _predicted(
    data: HDF5Dataset, model: Model, names: Names, place: Callable[[Block, Columns], Columns]
) -> Iterator[Columns]:
    for block in data.blocks():
        check_block(block, names)
        yield place(block, _columns(model, block))


def _columns(model: Model, block: Block) -> Columns:
    return {"row": block.index, **family_of(model.kind).columns(model, block)}


def _selected_rows(block: Block, columns: Columns) -> Columns:
    return columns


def _every_row(data: HDF5Dataset) -> Callable[[Block, Columns], Columns]:
    """Return what spreads a block's columns over all stored rows of its shards."""

    def place(block: Block, columns: Columns) -> Columns:
        first = block.start // data.partition.shard_rows
        start, stop = data.partition.rows_of(range(first, first + block.n_shards))
        inside = block.index - start
        spread = {name: _spread(array, inside, stop - start) for name, array in columns.items()}
        return {**spread, "row": np.arange(start, stop)}

    return place


def _spread(values: NDArray[Any], at: NDArray[np.int64], n_rows: int) -> Vector:
    out = np.full((n_rows, *values.shape[1:]), np.nan)
    out[at] = values
    return out
