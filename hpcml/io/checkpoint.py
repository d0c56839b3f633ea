"""State in a file: nested dictionaries of arrays and numbers, with a digest; no HDF5, no pickle."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.errors import DataError
from hpcml.io.files import read_bytes, write_bytes

__all__ = ["decode", "encode", "last_checkpoint", "read_checkpoint", "write_checkpoint"]

_MAGIC = b"hpcmlck1"
_DTYPES = ("<f8", "<f4", "<i8", "<i4", "|b1")


def encode(tree: dict[str, Any]) -> bytes:
    """Return the bytes of a nested dictionary of arrays, numbers, strings and booleans. Local.

    ``magic | length of header | header (JSON) | raw little-endian arrays | SHA-256 of all before``.
    """
    arrays: list[bytes] = []
    header = json.dumps(_described(tree, arrays)).encode()
    body = _MAGIC + len(header).to_bytes(8, "little") + header + b"".join(arrays)
    return body + hashlib.sha256(body).digest()


def _described(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, dict):
        return {key: _described(item, arrays) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"), order="C")
        if little.dtype.str not in _DTYPES:
            raise TypeError(f"a checkpoint cannot hold arrays of type {little.dtype}")
        arrays.append(little.tobytes())
        return {"$array": little.dtype.str, "shape": list(value.shape)}
    if isinstance(value, float | np.floating):
        return {"$float": struct.pack("<d", value).hex()}
    return value.item() if isinstance(value, np.generic) else value


def decode(content: bytes, name: str = "checkpoint") -> dict[str, Any]:
    """Return what `encode` was given; numbers and arrays have the same bits. Local.

    Raises
    ------
    DataError
        The bytes are not a whole checkpoint.
    """
    body, digest = content[:-32], content[-32:]
    if not body.startswith(_MAGIC):
        raise DataError(f"{name}: is not a checkpoint of this version")
    if hashlib.sha256(body).digest() != digest:
        raise DataError(f"{name}: is damaged: its digest does not fit")
    start = len(_MAGIC) + 8
    length = int.from_bytes(body[len(_MAGIC) : start], "little")
    tree, _ = _restored(json.loads(body[start : start + length]), body, start + length)
    return dict(tree)


def _restored(value: Any, body: bytes, offset: int) -> tuple[Any, int]:
    if not isinstance(value, dict):
        return value, offset
    if "$float" in value:
        return struct.unpack("<d", bytes.fromhex(value["$float"]))[0], offset
    if "$array" in value:
        return _array(value, body, offset)
    tree = {}
    for key, item in value.items():
        tree[key], offset = _restored(item, body, offset)
    return tree, offset


def _array(value: dict[str, Any], body: bytes, offset: int) -> tuple[Any, int]:
    if value["$array"] not in _DTYPES:
        raise DataError(f"a checkpoint cannot hold arrays of type {value['$array']}")
    dtype = np.dtype(value["$array"])
    count = int(np.prod(value["shape"], dtype=np.int64))
    array = np.frombuffer(body, dtype, count, offset).reshape(value["shape"]).copy()
    return array, offset + array.nbytes


def write_checkpoint(directory: Path, step: int, tree: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint and remove all but the `keep` newest. Local: one process calls it."""
    path = directory / f"step-{step:08d}.ckpt"
    write_bytes(path, encode(tree))
    for old in sorted(directory.glob("step-*.ckpt"))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint file. Local."""
    return decode(read_bytes(path), str(path))


def last_checkpoint(directory: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or None. Local."""
    for path in sorted(directory.glob("step-*.ckpt"), reverse=True):
        try:
            read_checkpoint(path)
        except DataError:
            continue
        return path
    return None
