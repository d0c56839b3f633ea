"""A model file at work: predictions and metrics on the rows of a data file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.kernels.rows import raw_prediction
from hpcml.algorithms.linear_model import LinearModel, model_from_arrays
from hpcml.algorithms.metrics import METRICS, Scores, evaluate
from hpcml.algorithms.survey import Names, survey
from hpcml.collectives import Communicator, agreed
from hpcml.collectives.gathering import on_first
from hpcml.data import RowSelection
from hpcml.errors import DataError, SpecError, shared
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.files import write_bytes
from hpcml.io.image import hdf5_image
from hpcml.io.model import ModelFile, read_model

__all__ = ["Rows", "evaluate_model", "predict_rows"]

_METRICS = {"logistic_regression": ("roc_auc", "log_loss", "accuracy"), "linear_regression": ("r2", "rmse")}


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
    """

    path: Path
    x: str = "X"
    y: str | None = "y"
    part: str = "all"


def _opened(comm: Communicator, path: Path, rows: Rows) -> tuple[ModelFile, HDF5Dataset]:
    """Read the model and open the rows, whose columns must be the model's. Collective."""
    with agreed(comm):
        file = read_model(path)
        selection = _selection(file, rows.part)
    layout = _layout(file.about["spec"]["data"])
    data = HDF5Dataset(rows.path, comm=comm, x=rows.x, y=rows.y, selection=selection, layout=layout)
    n_features = file.arrays["coef"].size
    if data.n_features != n_features:
        sentence = f"{rows.path}:{rows.x} has {data.n_features} columns and the model {path} has {n_features}"
        raise shared(DataError(sentence))
    return file, data


def _layout(data: dict[str, Any]) -> Layout:
    """Return the cut of the rows that the model was trained with: the run's own metrics come out again."""
    cut = {name: None if value == "auto" else value for name, value in data["partition"].items()}
    return Layout(dtype=data["dtype"], shard_bytes=cut["shard_bytes"], block_rows=cut["block_rows"])


def _selection(file: ModelFile, part: str) -> RowSelection | None:
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
    file, data = _opened(comm, path, rows)
    with data:
        fitting = _METRICS[file.about["kind"]]
        unknown = set(metrics) - set(fitting) or set(metrics) - set(METRICS)
        if unknown:
            raise shared(
                SpecError(f"metric {sorted(unknown)[0]!r} does not fit; choose from {', '.join(fitting)}")
            )
        survey(data, classes=False, names=Names(f"{rows.path}:{rows.x}", f"{rows.path}:{rows.y}"))
        return evaluate(data, model_from_arrays(file.about["kind"], file.arrays), metrics or fitting)


def predict_rows(comm: Communicator, path: Path, rows: Rows, output: Path) -> int:
    """Write the predictions of a model, a row each, and return their number.

    Collective: two passes, and one message that brings all predictions to one rank, which writes `row`
    (number in the source), `prediction`, and for a classifier `probability` of the second class.
    """
    with agreed(comm):
        for source in (path, rows.path):
            if output.exists() and source.exists() and output.samefile(source):
                raise SpecError(f"-o {output}: would replace {source}, which is read; choose another name")
    file, data = _opened(comm, path, rows)
    model = model_from_arrays(file.about["kind"], file.arrays)
    with data:
        survey(data, classes=False, names=Names(f"{rows.path}:{rows.x}"))
        blocks = [
            (block.index, raw_prediction(block, model.coef, model.intercept)) for block in data.blocks()
        ]
    index = on_first(comm, np.concatenate([np.zeros(0, np.int64), *(i for i, _ in blocks)]))
    z = on_first(comm, np.concatenate([np.zeros(0), *(z for _, z in blocks)]))
    with agreed(comm):
        if comm.rank == 0:
            about = {"model": str(path), "data": f"{rows.path}:{rows.x}", "labels": file.about["labels"]}
            write_bytes(output, hdf5_image(_columns(model, index, z), about))
    return data.n_samples


def _columns(model: LinearModel, index: NDArray[np.int64], z: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    if not model.classes.size:
        return {"row": index, "prediction": z}
    with np.errstate(over="ignore"):
        probability = 1.0 / (1.0 + np.exp(-z))
    return {"row": index, "prediction": model.classes[(z > 0).astype(int)], "probability": probability}
