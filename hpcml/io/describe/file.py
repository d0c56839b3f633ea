"""What an HDF5 file holds and what reading it costs, from its metadata alone."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from hpcml.errors import DataError
from hpcml.io.describe.advice import advice, pieces
from hpcml.io.describe.storage import describe_storage, share_bytes
from hpcml.io.describe.striping import read_striping
from hpcml.io.index.side_file import index_state
from hpcml.io.read.opening import found, link_sentence, open_file, readable

__all__ = ["describe_file"]

_ABOUT = ("kind", "name", "model", "data", "labels", "digest", "hpcml", "converged", "certificate", "n_iter")
_NAMED_LAST = ("shuffle", "fletcher32")
_CSR = ("data", "indices", "indptr")
_MOST_SHARES = 4  # of the largest matrices
_BROKEN = (DataError, OSError, RuntimeError, TypeError, ValueError, KeyError)


def describe_file(path: Path) -> dict[str, Any]:
    """Return what a file holds, what reading it costs, and advice. Local; no data are read.

    Returns
    -------
    dict
        Of what JSON can say: kind, path, bytes; for each data set a line and how it is stored
        (`describe_storage`); links, problems, index, bytes of a rank's share, striping, advice; and what
        hpcml left in the file.

    Raises
    ------
    DataError
        It cannot be opened as HDF5.
    """
    with open_file(path) as file:
        told: dict[str, Any] = {"kind": "HDF5 file", "path": str(path), "bytes": path.stat().st_size}
        told |= _left_by_hpcml(file)
        told |= {"data sets": {}, "storage": {}, "shares": {}, "links": {}, "problems": []}
        for name in _names(file, told):
            try:
                _describe(file, readable(name), path, told)
            except _BROKEN as error:
                told["data sets"][readable(name)] = f"cannot be described ({error})"
        if told["kind"] == "HDF5 file":
            told["index"] = index_state(path)
            told["striping"] = [part._asdict() for part in read_striping(path)]
            told["shares"] = _largest(told["shares"])
            told["problems"] += [each["problem"] for _, each in pieces(told["storage"]) if "problem" in each]
            told["advice"] = advice(told)
        return told


def _left_by_hpcml(file: h5py.File) -> dict[str, Any]:
    left: dict[str, Any] = {}
    with suppress(*_BROKEN):  # then it was not hpcml that wrote them
        if "hpcml_digest" in file.attrs:
            left["content digest"] = bytes(file.attrs["hpcml_digest"]).decode()
        if "about" in file.attrs:
            about = dict(json.loads(str(file.attrs["about"])))
            kind = "model" if file.get("coef", getlink=True) else "predictions"
            kind = "index" if about.get("kind") == "index" else kind
            left |= {"about": {name: about[name] for name in _ABOUT if name in about}, "kind": kind}
    return left


def _names(file: h5py.File, told: dict[str, Any]) -> list[str | bytes]:
    """Return what hard links lead to, each thing once; note the other links, and those to nothing."""
    names: list[str | bytes] = []
    soft: dict[str, str] = {}

    def note(name: str | bytes, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            what = f"external link to {readable(link.path)} in the file {link.filename}"
            told["links"][readable(name)] = what
            told["problems"].append(_problem_outside(file, readable(name), link))
        elif isinstance(link, h5py.SoftLink):
            soft[readable(name)] = readable(link.path)

    try:
        file.visit(names.append)
        file.visititems_links(note)
    except (*_BROKEN, SystemError) as error:  # SystemError: h5py, at a link of a kind that it does not know
        told["problems"].append(f"the file cannot be walked to its end ({error})")
    told["links"] |= {name: f"soft link to {target}" for name, target in soft.items()}
    told["problems"] += filter(None, (_problem_inside(file, *link) for link in soft.items()))
    return names


def _problem_outside(file: h5py.File, name: str, link: h5py.ExternalLink) -> str:
    """Return why a job would refuse an external link. The other file is not opened."""
    if (Path(file.filename).parent / link.filename).exists():
        return link_sentence(name, link)
    target = readable(link.path)
    return f"{name!r} is an external link to {target!r} in the file {link.filename!r}, which is not there"


def _problem_inside(file: h5py.File, name: str, target: str) -> str | None:
    """Return why a job would refuse a soft link, None for one that leads to something."""
    try:
        found(file, name, (h5py.Dataset, h5py.Group, h5py.Datatype))
    except _BROKEN as error:
        why = str(error).removeprefix(f"{file.filename}: ")
        return f"{name!r} is a soft link to {target!r}, which cannot be opened: {why}"
    return None


def _describe(file: h5py.File, name: str, path: Path, told: dict[str, Any]) -> None:
    item = file[name]
    parent = name.rpartition("/")[0]
    if isinstance(item, h5py.Group) and _is_csr(item):
        _describe_csr(file, name, path, told)
    elif isinstance(item, h5py.Dataset) and parent not in told["storage"]:  # a CSR group precedes its parts
        stored = told["storage"][name] = describe_storage(item, path)
        told["data sets"][name] = f"{_size_of(stored)}, {item.dtype}, {_layout(stored)}"
        is_matrix = len(item.shape or ()) == 2 and item.size and item.dtype.kind in "fiub"
        if is_matrix and "problem" not in stored:
            rows, columns = map(int, item.shape)
            told["shares"][name] = share_bytes(rows, columns, (stored.get("chunks") or [1])[0], None)


def _is_csr(group: h5py.Group) -> bool:
    """Whether links to the three arrays are there; they are not followed."""
    return all(group.get(part, getlink=True) for part in _CSR)


def _describe_csr(file: h5py.File, name: str, path: Path, told: dict[str, Any]) -> None:
    data, indptr = (found(file, f"{name}/{part}", h5py.Dataset) for part in ("data", "indptr"))
    rows, columns = (int(n) for n in file[name].attrs.get("shape", (indptr.shape[0] - 1, -1)))
    n = int(data.shape[0])
    parts = {part: describe_storage(found(file, f"{name}/{part}", h5py.Dataset), path) for part in _CSR}
    size, stored = (sum(each[what] for each in parts.values()) for what in ("bytes", "stored bytes"))
    told["storage"][name] = {"layout": "csr", "bytes": size, "stored bytes": stored, "parts": parts}
    entries = f"{n} entries ({n / max(rows * columns, 1):.2%})"
    told["data sets"][name] = f"CSR {rows} x {columns}, {data.dtype}, {entries}, {_layout(parts['data'])}"
    if rows > 0 and n:
        told["shares"][name] = share_bytes(rows, columns, 1, n / rows)


def _size_of(stored: dict[str, Any]) -> str:
    shape = stored["shape"]
    return "empty" if shape is None else " x ".join(map(str, shape)) or "scalar"


def _layout(stored: dict[str, Any]) -> str:
    if stored["layout"] != "chunked":
        return "contiguous" if stored["layout"] == "compact" else str(stored["layout"])
    names = [each["name"] for each in stored["filters"]]
    names.sort(key=_NAMED_LAST.__contains__)
    return ", ".join([f"chunks {_size_of({'shape': stored['chunks']})}", *filter(None, ["+".join(names)])])


def _largest(shares: dict[str, Any]) -> dict[str, Any]:
    """Return the largest of different size."""
    different = {tuple(each["float64"]): name for name, each in reversed(shares.items())}
    names = [different[sizes] for sizes in sorted(different, reverse=True)[:_MOST_SHARES]]
    return {name: shares[name] for name in names}
