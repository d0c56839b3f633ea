"""The model file: HDF5 that any HDF5 tool reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError
from hpcml.io.files import write_bytes
from hpcml.io.image import FORMAT, hdf5_image
from hpcml.io.read.opening import open_file

__all__ = ["ModelFile", "read_model", "write_model"]


class ModelFile(NamedTuple):
    """What a model file holds: arrays by name, and everything else as JSON can say it."""

    arrays: dict[str, NDArray[np.float64]]
    about: dict[str, Any]


def write_model(path: Path, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write a model file, complete or not at all. Local: one process calls it.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    image = {name: np.asarray(array, "<f8") for name, array in arrays.items()}
    write_bytes(path, hdf5_image(image, {**about, "arrays": list(arrays)}))


def read_model(path: Path) -> ModelFile:
    """Return what a model file holds. Local; nothing in it is executed.

    Raises
    ------
    DataError
        It is missing, not HDF5, not a model, or of a later format.
    """
    with open_file(path) as file:
        version = file.attrs.get("hpcml_format")
        if version is None or "about" not in file.attrs:
            raise DataError(f"{path}: is not a model file")
        if int(version) > FORMAT:
            raise DataError(f"{path}: has format {version}; this version reads up to {FORMAT}")
        try:
            about = dict(json.loads(str(file.attrs["about"])))
            names = about.pop("arrays", list(file))
            return ModelFile({name: np.asarray(file[name][()], np.float64) for name in names}, about)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is not a model file ({error})") from None
