"""The index of a data file: what is known of its content, in a side file NAME.index beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcml.errors import DataError
from hpcml.io.files import index_path, write_bytes
from hpcml.io.image import hdf5_image
from hpcml.io.read.handle import FileIdentity, identity_of
from hpcml.io.read.opening import open_file

__all__ = [
    "ArrayIndex",
    "FileIndex",
    "IndexContent",
    "borders_name",
    "digest_bytes",
    "index_path",
    "index_state",
    "load_index",
    "read_answer",
    "read_index",
    "write_index",
]

FORMAT = 1
_DIGEST_BYTES = 16


class ArrayIndex(NamedTuple):
    """What is known of one stored array.

    Attributes
    ----------
    shape : list of int
    dtype : str
        As stored, byte order included.
    n_rows : int
        Rows of the table that the array covers.
    grain_rows : int
        Rows of a grain, the run of rows that has one digest; the last one may be shorter.
    content : str
        XXH3 (128 bit) of all its digests.
    is_finite : bool or None
        Whether it has neither NaN nor Inf; None where it was not looked through.
    digests, borders : int or None
        Offsets in the side file of the digests, 16 bytes each, and of the grains' borders among the entries
        of CSR rows.
    """

    shape: list[int]
    dtype: str
    n_rows: int
    grain_rows: int
    content: str
    is_finite: bool | None = None
    digests: int | None = None
    borders: int | None = None

    @property
    def n_grains(self) -> int:
        """Number of digests."""
        return -(-self.n_rows // self.grain_rows)


class FileIndex(NamedTuple):
    """The index of one file, without its digests.

    Attributes
    ----------
    path : Path
        Of the side file.
    identity : FileIdentity
        Of the side file.
    is_fresh : bool
        The data file has the time of change that the index knows.
    arrays : dict of str to ArrayIndex
        Empty where the side file is of a format that this version does not know.
    """

    path: Path
    identity: FileIdentity
    is_fresh: bool
    arrays: dict[str, ArrayIndex]

    def to_json(self) -> list[Any]:
        """Return what JSON can say of it. Local."""
        return [str(self.path), self.identity, self.is_fresh, self.arrays]

    @classmethod
    def from_json(cls, tree: list[Any]) -> FileIndex:
        """Return what `to_json` said. Local."""
        path, identity, is_fresh, arrays = tree
        known = {name: ArrayIndex(*values) for name, values in arrays.items()}
        return cls(Path(path), FileIdentity(*identity), is_fresh, known)


class IndexContent(NamedTuple):
    """All that a side file holds.

    Attributes
    ----------
    contract : dict
        Of what JSON can say: format, bytes, mtime_ns, arrays, and what the statistics are of.
    numbers : dict of str to array
        Digests, borders and statistics by name.
    answers : dict of str to dict
        What passes over the rows found, by key, as JSON can say it.
    """

    contract: dict[str, Any]
    numbers: dict[str, NDArray[Any]]
    answers: dict[str, dict[str, Any]]


def borders_name(name: str) -> str:
    """Return where the borders of the grains of a CSR group's entries stand. Local."""
    return f"borders/{name.rpartition('/')[0]}"


def digest_bytes(content: Any) -> bytes:
    """Return the XXH3 (128 bit) of bytes or of an array in C order. Local."""
    from xxhash import xxh3_128_digest

    return xxh3_128_digest(content)


def write_index(path: Path, content: IndexContent) -> None:
    """Write the index of the data file `path`, complete or absent. Local.

    Raises
    ------
    OutputError
        For want of space, quota or permission.
    """
    arrays = {"contract": _sealed(content.contract), **dict(sorted(content.numbers.items()))}
    arrays |= {f"answers/{key}": _sealed(answer) for key, answer in sorted(content.answers.items())}
    write_bytes(index_path(path), hdf5_image(arrays, {"kind": "index"}))


def _sealed(tree: Any) -> NDArray[np.uint8]:
    text = json.dumps(tree, sort_keys=True).encode()
    return np.frombuffer(digest_bytes(text) + text, np.uint8)


def _unsealed(file: h5py.File, name: str) -> Any:
    path = file.filename
    try:
        sealed = file[name][()].tobytes()
    except (KeyError, OSError, AttributeError):
        raise DataError(f"{path}: is not an index of hpcml, or damaged: remove it") from None
    digest, text = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
    if digest_bytes(text) != digest:
        raise DataError(f"{path}: is damaged ({name}): run hpcml index again")
    return json.loads(text)


def read_index(path: Path, identity: FileIdentity) -> FileIndex | None:
    """Return the index beside a data file, or None where there is none. Local; opens it once.

    Parameters
    ----------
    path : Path
    identity : FileIdentity
        Of the data file.

    Raises
    ------
    DataError
        The side file is no index or damaged, or the data file has another size than it knows.
    """
    side = index_path(path)
    if not side.exists():
        return None
    with open_file(side) as file:
        about = identity_of(os.fstat(file.id.get_vfd_handle()))
        contract = _unsealed(file, "contract")
        if contract["format"] != FORMAT:
            return FileIndex(side, about, False, {})
        if contract["bytes"] != identity.size:
            raise DataError(
                f"{side}: was made for another state of {path.name}, of {contract['bytes']} bytes; it has "
                f"{identity.size} now: run hpcml index again, or remove the index"
            )
        arrays = {name: _located(file, name, known) for name, known in contract["arrays"].items()}
        return FileIndex(side, about, contract["mtime_ns"] == identity.mtime_ns, arrays)


def _located(file: h5py.File, name: str, known: dict[str, Any]) -> ArrayIndex:
    borders = borders_name(name)
    is_entries = borders in file and name.rpartition("/")[2] in ("data", "indices")
    return ArrayIndex(
        **known,
        digests=file[f"digests/{name}"].id.get_offset(),
        borders=file[borders].id.get_offset() if is_entries else None,
    )


def load_index(path: Path) -> IndexContent:
    """Return all of the index of the data file `path`. Local.

    Raises
    ------
    DataError
        It cannot be read.
    """
    numbers: dict[str, NDArray[Any]] = {}
    with open_file(index_path(path)) as file:
        contract = _unsealed(file, "contract")
        answers = {key: _unsealed(file, f"answers/{key}") for key in file.get("answers", ())}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and name != "contract" and not name.startswith("answers/"):
                numbers[name] = item[()]

        file.visititems(note)
    return IndexContent(contract, numbers, answers)


def read_answer(path: Path, key: str) -> Any:
    """Return an answer of the index of the data file `path`, or None. Local.

    Raises
    ------
    DataError
        It cannot be read.
    """
    with open_file(index_path(path)) as file:
        return _unsealed(file, f"answers/{key}") if f"answers/{key}" in file else None


def index_state(path: Path) -> str:
    """Return in words whether a file has an index, and whether it is of this state of the file. Local."""
    if not index_path(path).exists():
        return "none"
    try:
        with open_file(index_path(path)) as file:
            contract: Mapping[str, Any] = _unsealed(file, "contract")
    except DataError:
        return "damaged"
    status = path.stat()
    if contract["format"] != FORMAT:
        return "of another version"
    if contract["bytes"] != status.st_size:
        return "of a file of another size"
    return "present" if contract["mtime_ns"] == status.st_mtime_ns else "of another time of change"
