"""HDF5 files as seen by one rank: opened read-only, checked by their metadata, read in row ranges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.data import Matrix, Source
from hpcml.errors import DataError

__all__ = ["HDF5Rows", "open_file"]

_CALL_BYTES = 256 << 20


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file to read, without a lock, which some file systems do not have. Local.

    Raises
    ------
    DataError
        It is missing, unreadable, not HDF5, or truncated.
    """
    try:
        # Whole chunks are read once each: a chunk cache would only copy them (rdcc_nbytes=0).
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory, not an HDF5 file") from None
    except PermissionError:
        raise DataError(f"{path}: permission denied") from None
    except OSError as error:
        raise DataError(f"{path}: {_why_not(path, error)}") from None


def _why_not(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "is a directory, not an HDF5 file"
    if "truncated" in str(error):
        return f"is truncated: it has {path.stat().st_size} bytes and its header speaks of more"
    if h5py.is_hdf5(path):
        return f"cannot be opened ({error})"
    is_table = {".csv", ".parquet", ".npy", ".gz", ".zip"} & set(path.suffixes)
    return "is not an HDF5 file" + ("; name it in data.source, or convert it first" if is_table else "")


def _present(file: h5py.File) -> str:
    names: list[str] = []
    file.visit(names.append)
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "nothing"


@dataclass(frozen=True)
class _CSR:
    """The three arrays of a CSR group."""

    data: h5py.Dataset
    indices: h5py.Dataset
    indptr: h5py.Dataset


class HDF5Rows:
    """X, y and weight in an open HDF5 file. All Local.

    X is a data set of shape (rows, columns), or a group in CSR form: `data`, `indices`, `indptr` and the
    attribute `shape`.

    Parameters
    ----------
    path : Path
    x : str
    y, weight : str or None
    dtype : str or None
        Of X in memory, float32 or float64; None keeps a stored float32 or float64 and makes the rest float64.

    Raises
    ------
    DataError
        The file cannot be opened, lacks a data set, or shapes and types do not fit together.
    """

    def __init__(
        self, path: Path, x: str, y: str | None, weight: str | None, dtype: str | None = None
    ) -> None:
        self.path = path
        self.x = x
        self._file = open_file(path)
        self.bytes_read = 0
        try:
            self._x = self._open_x(x)
            self._columns = {"y": self._open_column(y), "weight": self._open_column(weight)}
        except DataError:
            self.close()
            raise
        stored = self._stored.dtype
        keeps = stored in (np.float32, np.float64)
        self.dtype = np.dtype(dtype or (stored if keeps else np.float64))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> HDF5Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _found(self, name: str, kinds: type | tuple[type, ...]) -> Any:
        item = self._file.get(name)
        if item is None:
            raise DataError(f"{self.path}: there is no dataset {name!r}; the file has {_present(self._file)}")
        if not isinstance(item, kinds):
            raise DataError(f"{self.path}: {name!r} is a {type(item).__name__.lower()}, not a dataset")
        return item

    def _open_x(self, name: str) -> h5py.Dataset | _CSR:
        item = self._found(name, (h5py.Dataset, h5py.Group))
        if isinstance(item, h5py.Group):
            return self._open_csr(name, item)
        if item.ndim != 2:
            raise DataError(f"{self.path}: {name!r} has shape {item.shape}; X needs rows and columns")
        self._check_numeric(name, item)
        self.n_samples, self.n_features = map(int, item.shape)
        self._check_size(name)
        return item

    def _open_csr(self, name: str, group: h5py.Group) -> _CSR:
        missing = {"data", "indices", "indptr"} - set(group)
        if missing or "shape" not in group.attrs:
            what = sorted(missing) or ["the attribute 'shape'"]
            raise DataError(f"{self.path}: the group {name!r} is not in CSR form: it lacks {', '.join(what)}")
        parts = _CSR(
            *(self._found(f"{name}/{part}", h5py.Dataset) for part in ("data", "indices", "indptr"))
        )
        shape = np.asarray(group.attrs["shape"])
        if shape.shape != (2,) or shape.dtype.kind not in "iu":
            raise DataError(f"{self.path}: the attribute 'shape' of {name!r} is not two numbers")
        self.n_samples, self.n_features = map(int, shape)
        self._check_numeric(f"{name}/data", parts.data)
        for part in (parts.indices, parts.indptr):
            if part.dtype.kind not in "iu":
                name = part.name[1:]
                raise DataError(f"{self.path}: {name!r} must hold integers (its type is {part.dtype})")
        if parts.indptr.shape != (self.n_samples + 1,) or parts.data.shape != parts.indices.shape:
            raise DataError(
                f"{self.path}: the CSR arrays of {name!r} do not fit the shape {group.attrs['shape']}"
            )
        if int(parts.indptr[0]) != 0:
            raise DataError(f"{self.path}: {name}/indptr starts at {parts.indptr[0]}, not at 0")
        if int(parts.indptr[-1]) != parts.data.shape[0]:
            raise DataError(
                f"{self.path}: {name}/indptr ends at {parts.indptr[-1]}, not at {parts.data.shape[0]}"
            )
        self._check_size(name)
        return parts

    def _check_numeric(self, name: str, item: h5py.Dataset) -> None:
        if item.dtype.kind not in "fiub":
            raise DataError(f"{self.path}: {name!r} is not numeric (its type is {item.dtype})")

    def _check_size(self, name: str) -> None:
        if self.n_samples == 0 or self.n_features == 0:
            raise DataError(f"{self.path}: {name!r} has {self.n_samples} rows and {self.n_features} columns")

    def _open_column(self, name: str | None) -> h5py.Dataset | None:
        if name is None:
            return None
        item = self._found(name, h5py.Dataset)
        self._check_numeric(name, item)
        if item.shape not in ((self.n_samples,), (self.n_samples, 1)):
            raise DataError(
                f"{self.path}: {self.x!r} has {self.n_samples} rows and {name!r} has shape {item.shape}"
            )
        return item

    @property
    def _stored(self) -> h5py.Dataset:
        return self._x.data if isinstance(self._x, _CSR) else self._x

    @property
    def source(self) -> Source:
        """What decides the partition."""
        if isinstance(self._x, _CSR):
            mean = self._x.data.shape[0] / self.n_samples
            return Source(self.n_samples, self.n_features, mean * (self.dtype.itemsize + 4))
        chunks = self._x.chunks
        row_bytes = self.n_features * self.dtype.itemsize
        return Source(self.n_samples, self.n_features, row_bytes, int(chunks[0]) if chunks else 1)

    @property
    def is_sparse(self) -> bool:
        """Whether X is stored in CSR form."""
        return isinstance(self._x, _CSR)

    @property
    def labels(self) -> list[str] | None:
        """The texts that the labels 0, 1, ... stand for, where a conversion left them."""
        texts = self._file.attrs.get("classes")
        return None if texts is None else [str(text) for text in texts]

    def texts(self, name: str) -> list[str] | None:
        """Return a data set of strings, or None where the file has none of that name."""
        item = self._file.get(name)
        return None if item is None else [str(text) for text in item.asstr()[()]]

    def column(self, which: str, start: int, stop: int) -> NDArray[np.float64] | None:
        """Return rows of "y" or "weight" as float64, or None where there is none."""
        item = self._columns[which]
        return (
            None
            if item is None
            else self._read(item, start, stop, np.dtype(np.float64)).reshape(stop - start)
        )

    def rows(self, start: int, stop: int) -> Matrix:
        """Return rows of X, an array or a csr_array."""
        if not isinstance(self._x, _CSR):
            return self._read(self._x, start, stop, self.dtype)
        indptr = self._read(self._x.indptr, start, stop + 1, np.dtype(np.int64))
        first, last = int(indptr[0]), int(indptr[-1])
        if (np.diff(indptr) < 0).any() or first < 0 or last > self._x.data.shape[0]:
            raise DataError(f"{self.path}: {self.x}/indptr does not rise between rows {start} and {stop}")
        indices = self._read(self._x.indices, first, last, self._x.indices.dtype)
        if indices.size and (indices.min() < 0 or indices.max() >= self.n_features):
            raise DataError(f"{self.path}: {self.x}/indices names a column outside 0..{self.n_features - 1}")
        data = self._read(self._x.data, first, last, self.dtype)
        indices = indices.astype(np.int32, copy=False)
        return sparse.csr_array((data, indices, indptr - first), shape=(stop - start, self.n_features))

    def _read(self, item: h5py.Dataset, start: int, stop: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read in calls of at most 256 MiB, converting in NumPy, which is faster than HDF5 at it."""
        out = np.empty((stop - start, *item.shape[1:]), dtype)
        row_bytes = max(1, int(np.prod(item.shape[1:])) * item.dtype.itemsize)
        step = max(1, _CALL_BYTES // row_bytes)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            part = out[first - start : last - start]
            try:
                if item.dtype == dtype:
                    item.read_direct(part, np.s_[first:last])
                else:
                    part[...] = item[first:last]
            except OSError as error:
                raise DataError(
                    f"{self.path}: rows {first} to {last} of {item.name} cannot be read ({error})"
                ) from None
        self.bytes_read += (stop - start) * row_bytes
        return out
