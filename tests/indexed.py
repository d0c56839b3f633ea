"""A file with rows in every form that an index knows, and where to flip a bit in it."""

from __future__ import annotations

import os

import h5py
import numpy as np
import small
from scipy import sparse

from hpcml.collectives import SerialCommunicator
from hpcml.io.read.hdf5 import Columns
from hpcml.run.indexing import index_files

N = 9000  # three grains of 4096 rows
WIDTH = 6
DATA = Columns("X", "y", "w")


def put(path, n=N):
    rng = np.random.default_rng(11)
    X = rng.normal(size=(n, WIDTH))
    with h5py.File(path, "w") as file:
        file["X"] = X
        file.create_dataset("chunked", data=X, chunks=(min(500, n), WIDTH))
        file.create_dataset("gzip", data=X, chunks=(min(500, n), WIDTH), compression="gzip")
        file.create_dataset("tiles", data=X, chunks=(min(1000, n), 4))
        small.put_csr(file, "S", sparse.csr_array(np.where(rng.random(X.shape) < 0.6, 0.0, X)))
        file["y"] = (X[:, 0] + rng.normal(size=n) > 0).astype(np.int8)
        file["w"] = rng.uniform(0.5, 2.0, n)
    return path


def index(path, columns=DATA, comm=None):
    said = []
    index_files(comm or SerialCommunicator(), [path], columns, said.append)
    return said


def place_of(path, name, row):
    """Return the offset in the file of the first byte of a row."""
    with h5py.File(path, locking=False) as file:
        item = file[name]
        if item.chunks is None:
            return item.id.get_offset() + row * item.dtype.itemsize * int(np.prod(item.shape[1:]))
        info = item.id.get_chunk_info_by_coord(
            (row // item.chunks[0] * item.chunks[0], *[0] * (item.ndim - 1))
        )
        inside = row % item.chunks[0] * item.dtype.itemsize * int(np.prod(item.chunks[1:]))
        return info.byte_offset + (inside if item.compression is None else info.size // 2)


def flip(path, name, row, bit=1):
    """Flip a bit, and give the file back its time of change, as a damaged disk would."""
    status = path.stat()
    at = place_of(path, name, row)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
