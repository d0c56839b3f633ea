"""HDF5 files built in memory.

HDF5 itself never writes to the disk: on a full one it crashes the process when that exits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py
from numpy.typing import NDArray

__all__ = ["FORMAT", "hdf5_image"]

FORMAT = 1


def hdf5_image(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """Return the bytes of an HDF5 file with `arrays`, and `about` as JSON in an attribute. Local."""
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        file.attrs["hpcml_format"] = FORMAT
        file.attrs["about"] = json.dumps(dict(about), sort_keys=True)
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
        file.flush()
        return bytes(file.id.get_file_image())
