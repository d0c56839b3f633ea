"""The model file: HDF5 that any HDF5 tool reads, built in memory and written as plain bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError
from hpcml.io.files import write_bytes
from hpcml.io.hdf5 import open_file

__all__ = ["ModelFile", "read_model", "write_model"]

_FORMAT = 1


class ModelFile(NamedTuple):
    """What a model file holds: arrays by name, and everything else as JSON can say it."""

    arrays: dict[str, NDArray[np.float64]]
    about: dict[str, Any]


def write_model(path: Path, arrays: Mapping[str, NDArray[np.float64]], about: Mapping[str, Any]) -> None:
    """Write a model file, complete or not at all. Local.

    HDF5 itself never writes to the disk: on a full one it crashes the process when that exits.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False, track_order=False) as file:
        file.attrs["hpcml_format"] = _FORMAT
        file.attrs["about"] = json.dumps(dict(about), sort_keys=True)
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array, "<f8"), track_times=False)
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image)


def read_model(path: Path) -> ModelFile:
    """Return what a model file holds. Local; nothing in it is executed.

    Raises
    ------
    DataError
        It is missing, not HDF5, not a model, or of a later format.
    """
    with open_file(path) as file:
        version = file.attrs.get("hpcml_format")
        if version is None or "about" not in file.attrs or "coef" not in file:
            raise DataError(f"{path}: is not a model file")
        if int(version) > _FORMAT:
            raise DataError(f"{path}: has format {version}; this version reads up to {_FORMAT}")
        arrays = {name: np.asarray(item[()], np.float64) for name, item in file.items()}
        return ModelFile(arrays, json.loads(str(file.attrs["about"])))
