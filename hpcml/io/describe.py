"""What an HDF5 file holds, from its metadata alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from hpcml.io.hdf5 import open_file

__all__ = ["describe_file"]

_ABOUT = ("kind", "name", "model", "data", "labels", "digest", "hpcml", "converged", "certificate", "n_iter")


def describe_file(path: Path) -> dict[str, Any]:
    """Return data sets, CSR groups, layouts and what hpcml left in the file. Local; no data are read.

    Raises
    ------
    DataError
        It cannot be opened as HDF5.
    """
    with open_file(path) as file:
        found: dict[str, Any] = {"kind": "HDF5 file", "path": str(path), "bytes": path.stat().st_size}
        if "about" in file.attrs:
            about = json.loads(str(file.attrs["about"]))
            kind = "model" if "coef" in file else "predictions"
            found |= {"kind": kind, "about": {name: about[name] for name in _ABOUT if name in about}}
        if "hpcml_digest" in file.attrs:
            found["content digest"] = bytes(file.attrs["hpcml_digest"]).decode()
        sets: dict[str, Any] = {}
        file.visititems(lambda name, item: sets.update({name: _described(item)} if _is_shown(item) else {}))
        found["data sets"] = sets
        return found


def _is_csr(item: Any) -> bool:
    return isinstance(item, h5py.Group) and {"data", "indices", "indptr"} <= set(item)


def _is_shown(item: Any) -> bool:
    return _is_csr(item) or (isinstance(item, h5py.Dataset) and not _is_csr(item.parent))


def _described(item: Any) -> str:
    if _is_csr(item):
        rows, columns = (int(n) for n in item.attrs.get("shape", (item["indptr"].shape[0] - 1, -1)))
        stored = item["data"]
        share = stored.shape[0] / max(rows * columns, 1)
        entries = f"{stored.shape[0]} entries ({share:.2%})"
        return f"CSR {rows} x {columns}, {stored.dtype}, {entries}, {_layout(stored)}"
    return f"{' x '.join(map(str, item.shape)) or 'scalar'}, {item.dtype}, {_layout(item)}"


def _layout(item: h5py.Dataset) -> str:
    if item.chunks is None:
        return "contiguous"
    filters = "+".join(name for name in (item.compression, "shuffle" if item.shuffle else None) if name)
    return f"chunks {' x '.join(map(str, item.chunks))}{', ' + filters if filters else ''}"
