"""Predictions read back, with every part verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError
from hpcml.io.files import digest_of, file_digest, read_bytes
from hpcml.io.read.opening import open_file
from hpcml.io.write.predictions import MANIFEST

__all__ = ["Predictions", "check_predictions", "read_predictions"]


class Predictions(NamedTuple):
    """Columns by name, each (rows,) or (rows, n), and what the file says of itself."""

    columns: dict[str, NDArray[Any]]
    about: dict[str, Any]


def read_predictions(path: Path, start: int = 0, stop: int | None = None) -> Predictions:
    """Return rows ``start:stop`` of a file of predictions. Local.

    Every part that has some of them is verified first: HDF5 alone would fill in for a missing one.

    Raises
    ------
    DataError
        It is not a file of predictions, or a part is missing or is not the one that was written.
    """
    parts, about = check_predictions(path, start, stop)
    with open_file(path) as file:
        if not parts:
            return Predictions({name: item[start:stop] for name, item in file.items()}, about)
        pieces = {name: [np.empty((0, *item.shape[1:]), item.dtype)] for name, item in file.items()}
    for part, first, last in parts:
        with open_file(part) as file:
            for name in pieces:
                pieces[name].append(file[name][first:last])
    return Predictions({name: np.concatenate(arrays) for name, arrays in pieces.items()}, about)


def check_predictions(
    path: Path, start: int = 0, stop: int | None = None
) -> tuple[list[tuple[Path, int, int]], dict[str, Any]]:
    """Verify the parts that hold rows ``start:stop`` and return them, each with its own first row and last.

    Local; reads these parts once. A plain file has no parts.

    Raises
    ------
    DataError
        As `read_predictions`.
    """
    with open_file(path) as file:
        about = _about(path, file)
        n_rows = min(len(item) for item in file.values())
    if "parts" not in about:
        return [], about
    start, stop, _ = slice(start, stop).indices(n_rows)
    return _verified(path, about, start, stop), about


def _about(path: Path, file: h5py.File) -> dict[str, Any]:
    about = file.attrs.get("about")
    if about is None or "prediction" not in file or "row" not in file:
        raise DataError(f"{path}: is not a file of predictions")
    return dict(json.loads(str(about)))


def _verified(path: Path, about: dict[str, Any], start: int, stop: int) -> list[tuple[Path, int, int]]:
    folder = path.parent / about["parts"]
    manifest = read_bytes(folder / MANIFEST)
    if digest_of(manifest) != about["manifest"]:
        raise DataError(f"{folder / MANIFEST}: is not the manifest that {path} was written with")
    found, at = [], 0
    for part in json.loads(manifest)["parts"]:
        first, last = max(start - at, 0), min(stop - at, part["rows"])
        if first < last:
            found.append((_whole(folder / part["file"], part["digest"], path), first, last))
        at += part["rows"]
    return found


def _whole(part: Path, digest: str, path: Path) -> Path:
    if not part.is_file():
        raise DataError(f"{part}: a part of {path} is missing; predict again")
    if file_digest(part) != digest:
        raise DataError(f"{part}: is not the part that {path} was written with; predict again")
    return part
