"""HDF5 files built in memory.

HDF5 itself never writes to the disk: on a full one it crashes the process when that exits.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import h5py
from numpy.typing import NDArray

__all__ = ["FORMAT", "hdf5_image", "image_of"]

FORMAT = 1
_numbers = itertools.count()


def hdf5_image(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """Return the bytes of an HDF5 file with `arrays`, and `about` as JSON in an attribute. Local."""

    def fill(file: h5py.File) -> None:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)

    return image_of(fill, about)


def image_of(fill: Callable[[h5py.File], None], about: Mapping[str, Any]) -> bytes:
    """Return the bytes of an HDF5 file that `fill` writes into, with `about` as JSON. Local."""
    # HDF5 takes two open files of one name for one, in memory too, and threads may be at work.
    with h5py.File(f"image {next(_numbers)}", "w", driver="core", backing_store=False) as file:
        file.attrs["hpcml_format"] = FORMAT
        file.attrs["about"] = json.dumps(dict(about), sort_keys=True)
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())
